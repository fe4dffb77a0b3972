/** What others must know of the part that understands messages, without loading a language with its model for it. */
import type { Config } from '../config.ts';

/** The cursor in the spool; with Kafka it is added to the rollup's group. */
export const UNDERSTAND_GROUP = 'understand';

export function hasMessages({ streams }: Config): boolean {
  return Object.values(streams).some(({ understand }) => understand !== undefined);
}
