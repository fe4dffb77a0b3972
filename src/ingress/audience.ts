/**
 * Whether anyone listens to a topic: a live copy that nobody gets need not be made. Knows the filters of the clients that
 * are connected, from before the broker knows them until after it has forgotten them, so it may say yes too often, never no.
 */
import { FilterTree } from './filter-tree.ts';

export class Audience {
  readonly #filters = new FilterTree<object, true>();

  /** `owner`: the connection. */
  add(owner: object, filter: string): void {
    this.#filters.set(filter, owner, true);
  }

  remove(owner: object, filters: Iterable<string>): void {
    for (const filter of filters) this.#filters.remove(filter, owner);
  }

  listens(topic: string): boolean {
    return this.#filters.size > 0 && this.#filters.matches(topic);
  }
}
