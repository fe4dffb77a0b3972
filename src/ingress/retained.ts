/**
 * Retained messages, in memory and bounded: the last one of each topic. A tree of topic levels, so that a filter costs
 * what it matches and not what there is.
 */
import type { AedesPublishPacket } from 'aedes';

interface Node {
  readonly children: Map<string, Node>;
  packet: AedesPublishPacket | null;
}

/** Payload bytes of all together: no setting, since the count has one. */
const MAX_BYTES = 64 * 2 ** 20;

export class Retained {
  readonly #limit: number;
  readonly #root: Node = makeNode();
  #size = 0;
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#size;
  }

  /** A message without payload clears the topic. False: there is no room, and what was there stays. */
  store(packet: AedesPublishPacket): boolean {
    const bytes = packet.payload.length;
    if (bytes === 0) {
      this.#clear(packet.topic);
      return true;
    }
    const known = this.#find(packet.topic);
    const grows = bytes - (known?.packet?.payload.length ?? 0);
    if (this.#bytes + grows > MAX_BYTES || (!known?.packet && this.#size >= this.#limit)) return false;
    const node = known ?? this.#grow(packet.topic);
    if (node.packet === null) this.#size++;
    // a copy, which does not hold on to the socket's read buffer
    node.packet = { ...packet, payload: Buffer.from(packet.payload as Buffer) };
    this.#bytes += grows;
    return true;
  }

  *match(filter: string): Generator<AedesPublishPacket> {
    yield* matching(this.#root, filter.split('/'), 0);
  }

  #find(topic: string): Node | null {
    let node: Node | undefined = this.#root;
    for (const level of topic.split('/')) {
      node = node.children.get(level);
      if (!node) return null;
    }
    return node;
  }

  #grow(topic: string): Node {
    let node = this.#root;
    for (const level of topic.split('/')) {
      let child = node.children.get(level);
      if (!child) {
        child = makeNode();
        node.children.set(level, child);
      }
      node = child;
    }
    return node;
  }

  #clear(topic: string): void {
    const levels = topic.split('/');
    const path: Node[] = [this.#root];
    for (const level of levels) {
      const child = path.at(-1)!.children.get(level);
      if (!child) return;
      path.push(child);
    }
    const node = path.at(-1)!;
    if (node.packet === null) return;
    this.#bytes -= node.packet.payload.length;
    this.#size--;
    node.packet = null;
    for (let i = levels.length; i > 0; i--) {
      const empty = path[i]!;
      if (empty.packet !== null || empty.children.size > 0) return;
      path[i - 1]!.children.delete(levels[i - 1]!);
    }
  }
}

function* matching(node: Node, levels: readonly string[], at: number, top = true): Generator<AedesPublishPacket> {
  const level = levels[at];
  if (level === undefined || level === '#') {
    if (node.packet) yield node.packet;
  }
  if (level === undefined) return;
  if (level === '+' || level === '#') {
    for (const [name, child] of node.children) {
      if (top && name.startsWith('$')) continue;
      yield* matching(child, levels, level === '#' ? at : at + 1, false);
    }
  } else {
    const child = node.children.get(level);
    if (child) yield* matching(child, levels, at + 1, false);
  }
}

function makeNode(): Node {
  return { children: new Map(), packet: null };
}
