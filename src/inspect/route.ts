/**
 * From a topic to the stream whose template matches it. A tree over topic levels: the cost grows with the number of
 * levels, not with the number of streams. Where several templates match, the one with plain text at the first level
 * in which they differ wins, whatever the order in the configuration; of two templates that match exactly the same
 * topics the first one wins. Topics that start with `$` belong to the broker and match nothing (MQTT 3.1.1 section 4.7.2).
 */
import type { Stream } from '../stream.ts';

interface Node {
  readonly literals: Map<string, Node>;
  capture: Node | null;
  stream: Stream | null;
}

export type Router = (topic: string) => Stream | null;

export function createRouter(streams: readonly Stream[]): Router {
  const root = createNode();
  for (const stream of streams) {
    let node = root;
    for (const level of stream.topic.levels) node = childOf(node, level);
    node.stream ??= stream;
  }
  return (topic) => (topic.startsWith('$') ? null : find(root, topic, 0));
}

function createNode(): Node {
  return { literals: new Map(), capture: null, stream: null };
}

function childOf(node: Node, level: Stream['topic']['levels'][number]): Node {
  if ('capture' in level) {
    node.capture ??= createNode();
    return node.capture;
  }
  let child = node.literals.get(level.literal);
  if (!child) {
    child = createNode();
    node.literals.set(level.literal, child);
  }
  return child;
}

/** Recursion is bounded by the number of levels of the longest template. */
function find(node: Node, topic: string, from: number): Stream | null {
  const slash = topic.indexOf('/', from);
  const level = slash === -1 ? topic.slice(from) : topic.slice(from, slash);
  const literal = node.literals.get(level);
  const found = literal ? descend(literal, topic, slash) : null;
  if (found) return found;
  return node.capture && level !== '' ? descend(node.capture, topic, slash) : null;
}

function descend(node: Node, topic: string, slash: number): Stream | null {
  return slash === -1 ? node.stream : find(node, topic, slash + 1);
}
