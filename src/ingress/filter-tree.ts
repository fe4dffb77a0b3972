/** Topic filters of many owners, found by the topics that they match: a tree of levels. */

interface Node<O, T> {
  readonly children: Map<string, Node<O, T>>;
  /** By owner. */
  readonly values: Map<O, T>;
}

export class FilterTree<O, T> {
  readonly #root: Node<O, T> = makeNode();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  set(filter: string, owner: O, value: T): void {
    let node = this.#root;
    for (const level of filter.split('/')) {
      let child = node.children.get(level);
      if (!child) {
        child = makeNode();
        node.children.set(level, child);
      }
      node = child;
    }
    if (!node.values.has(owner)) this.#size++;
    node.values.set(owner, value);
  }

  remove(filter: string, owner: O): void {
    const path: Node<O, T>[] = [this.#root];
    const levels = filter.split('/');
    for (const level of levels) {
      const child = path.at(-1)!.children.get(level);
      if (!child) return;
      path.push(child);
    }
    if (!path.at(-1)!.values.delete(owner)) return;
    this.#size--;
    for (let i = levels.length; i > 0; i--) {
      const node = path[i]!;
      if (node.values.size > 0 || node.children.size > 0) return;
      path[i - 1]!.children.delete(levels[i - 1]!);
    }
  }

  /** One value for each owner with a filter that matches the topic. */
  match(topic: string): T[] {
    const found = new Map<O, T>();
    const levels = topic.split('/');
    // a leading wildcard does not match a topic that starts with $ [MQTT-4.7.2-1]
    this.#collect(this.#root, levels, 0, !topic.startsWith('$'), found);
    return [...found.values()];
  }

  /** Whether any filter matches the topic. */
  matches(topic: string): boolean {
    return this.#matches(this.#root, topic.split('/'), 0, !topic.startsWith('$'));
  }

  #matches(node: Node<O, T>, levels: readonly string[], at: number, wildcards: boolean): boolean {
    if (wildcards && (node.children.get('#')?.values.size ?? 0) > 0) return true;
    if (at === levels.length) return node.values.size > 0;
    const literal = node.children.get(levels[at]!);
    if (literal && this.#matches(literal, levels, at + 1, true)) return true;
    const any = wildcards ? node.children.get('+') : undefined;
    return any !== undefined && this.#matches(any, levels, at + 1, true);
  }

  #collect(node: Node<O, T>, levels: readonly string[], at: number, wildcards: boolean, found: Map<O, T>): void {
    if (wildcards) addAll(node.children.get('#'), found);
    if (at === levels.length) {
      addAll(node, found);
      return;
    }
    const literal = node.children.get(levels[at]!);
    if (literal) this.#collect(literal, levels, at + 1, true, found);
    const any = wildcards ? node.children.get('+') : undefined;
    if (any) this.#collect(any, levels, at + 1, true, found);
  }
}

function addAll<O, T>(node: Node<O, T> | undefined, found: Map<O, T>): void {
  if (node) for (const [owner, value] of node.values) found.set(owner, value);
}

function makeNode<O, T>(): Node<O, T> {
  return { children: new Map(), values: new Map() };
}
