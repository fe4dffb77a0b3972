/**
 * What Sparkplug B needs to be remembered between messages: for each edge node, which aliases and types its births gave,
 * and the sequence number of its last message. Handed from one inspector to the next, like SeriesMemory; it does not
 * outlive the process, so after a restart aliases are unknown until the node is born again, which is asked for.
 *
 * An alias is believed only while nothing was missed: a gap in the sequence numbers may hide a birth that gave it another
 * meaning, so after a gap everything the births said is void until the next one. Pure: `askRebirth` is called with the
 * node's topic parts, at most once in REBIRTH_EVERY_MS of received time for one node.
 */

export interface Definition {
  /** '' = the node itself. */
  readonly device: string;
  readonly name: string;
  readonly type: number;
}

export type AskRebirth = (group: string, node: string) => void;

interface Node {
  readonly group: string;
  readonly name: string;
  /** Null: no birth is known. */
  birth: Birth | null;
  askedMs: number;
}

interface Birth {
  /** Of the last message. */
  sequence: number;
  /** The number that pairs a death with its birth; null where the birth has none. */
  readonly session: number | null;
  readonly aliases: Map<number, Definition>;
  /** By device, NUL, name. */
  readonly types: Map<string, number>;
}

const REBIRTH_EVERY_MS = 10_000;
const MAX_NODES = 10_000;
const MAX_DEFINITIONS = 500_000;

export class BirthMemory {
  /** The one that was born or seen first for the longest time stands first. */
  readonly #nodes = new Map<string, Node>();
  readonly #askRebirth: AskRebirth;
  readonly #limits: { nodes: number; definitions: number };
  #definitions = 0;

  constructor(askRebirth: AskRebirth = () => {}, limits = { nodes: MAX_NODES, definitions: MAX_DEFINITIONS }) {
    this.#askRebirth = askRebirth;
    this.#limits = limits;
  }

  /** NBIRTH: all that was known of the node and its devices is replaced. */
  nodeBorn(group: string, name: string, definitions: Born, sequence: number, session: number | null): void {
    const node = this.#node(group, name);
    this.#forget(node);
    node.birth = { sequence, session, aliases: new Map(), types: new Map() };
    this.#define(node, '', definitions);
    // To the end of the line: it is the last one to make room.
    this.#nodes.delete(idOf(group, name));
    this.#nodes.set(idOf(group, name), node);
  }

  /** DBIRTH, after `follows` has answered true. */
  deviceBorn(group: string, name: string, device: string, definitions: Born): void {
    const node = this.#node(group, name);
    if (node.birth === null) return;
    this.#forgetDevice(node.birth, device);
    this.#define(node, device, definitions);
  }

  deviceDied(group: string, name: string, device: string): void {
    const birth = this.#nodes.get(idOf(group, name))?.birth;
    if (birth) this.#forgetDevice(birth, device);
  }

  /** NDEATH. One of an earlier session says nothing about this one. */
  nodeDied(group: string, name: string, session: number | null): void {
    const node = this.#nodes.get(idOf(group, name));
    if (node?.birth && (session === null || node.birth.session === null || session === node.birth.session)) {
      this.#forget(node);
    }
  }

  /**
   * Notes a message's sequence number. True: nothing was missed since the birth, or it is the last message once more.
   * False: the births' definitions are void, and the node is asked for them.
   */
  follows(group: string, name: string, sequence: number | null, receivedMs: number): boolean {
    const node = this.#node(group, name);
    const { birth } = node;
    if (birth !== null && sequence !== null) {
      if (sequence === birth.sequence) return true;
      if (sequence === (birth.sequence + 1) % 256) {
        birth.sequence = sequence;
        return true;
      }
    }
    this.lost(group, name, receivedMs);
    return false;
  }

  /** What the births said of a node is void: a message of it could not be read, or one is missing. */
  lost(group: string, name: string, receivedMs: number): void {
    const node = this.#node(group, name);
    this.#forget(node);
    if (receivedMs - node.askedMs < REBIRTH_EVERY_MS) return;
    node.askedMs = receivedMs;
    this.#askRebirth(group, name);
  }

  byAlias(group: string, name: string, alias: number): Definition | null {
    return this.#nodes.get(idOf(group, name))?.birth?.aliases.get(alias) ?? null;
  }

  typeOf(group: string, name: string, device: string, metric: string): number | null {
    return this.#nodes.get(idOf(group, name))?.birth?.types.get(`${device}\0${metric}`) ?? null;
  }

  #node(group: string, name: string): Node {
    const id = idOf(group, name);
    let node = this.#nodes.get(id);
    if (!node) {
      this.#makeRoom(this.#limits.nodes - 1, this.#limits.definitions);
      node = { group, name, birth: null, askedMs: Number.NEGATIVE_INFINITY };
      this.#nodes.set(id, node);
    }
    return node;
  }

  #define(node: Node, device: string, definitions: Born): void {
    const birth = node.birth!;
    for (const { alias, name, type } of definitions) {
      if (alias !== null) birth.aliases.set(alias, { device, name, type });
      birth.types.set(`${device}\0${name}`, type);
    }
    this.#definitions += definitions.length;
    this.#makeRoom(this.#limits.nodes, this.#limits.definitions, node);
  }

  /** Whoever loses its births is asked for them when it is heard again. */
  #makeRoom(nodes: number, definitions: number, kept: Node | null = null): void {
    for (const [id, node] of this.#nodes) {
      if (this.#nodes.size <= nodes && this.#definitions <= definitions) return;
      if (node === kept) continue;
      this.#forget(node);
      this.#nodes.delete(id);
    }
    // One node alone is too much.
    if (kept !== null && this.#definitions > definitions) this.#forget(kept);
  }

  #forget(node: Node): void {
    this.#definitions -= node.birth?.types.size ?? 0;
    node.birth = null;
  }

  #forgetDevice(birth: Birth, device: string): void {
    for (const [alias, definition] of birth.aliases) if (definition.device === device) birth.aliases.delete(alias);
    for (const key of birth.types.keys()) {
      if (!key.startsWith(`${device}\0`)) continue;
      birth.types.delete(key);
      this.#definitions--;
    }
  }
}

/** What one birth defines. Names are unique. */
export type Born = readonly { readonly alias: number | null; readonly name: string; readonly type: number }[];

function idOf(group: string, name: string): string {
  return `${group}/${name}`;
}
