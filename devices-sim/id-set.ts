/** A set of small integers that mostly come in order: one bit each, written as `0-1200,1203`. */

export class IdSet {
  #words = new Uint32Array(64);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(id: number): void {
    const word = id >>> 5;
    if (word >= this.#words.length) {
      const larger = new Uint32Array(Math.max(word + 1, this.#words.length * 2));
      larger.set(this.#words);
      this.#words = larger;
    }
    const bit = 1 << (id & 31);
    if (this.#words[word]! & bit) return;
    this.#words[word]! |= bit;
    this.#size++;
  }

  has(id: number): boolean {
    return ((this.#words[id >>> 5] ?? 0) & (1 << (id & 31))) !== 0;
  }

  /** Ranges in ascending order, both ends included. */
  ranges(): string {
    const parts: string[] = [];
    const end = this.#words.length * 32;
    for (let from = 0; from < end; from++) {
      if (!this.has(from)) continue;
      let to = from;
      while (this.has(to + 1)) to++;
      parts.push(from === to ? `${from}` : `${from}-${to}`);
      from = to;
    }
    return parts.join(',');
  }
}
