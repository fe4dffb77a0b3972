import assert from 'node:assert/strict';
import fc from 'fast-check';
import { FilterTree } from '../../src/ingress/filter-tree.ts';
import {
  coversFilter,
  matchesTopic,
  TOO_MANY_LEVELS,
  topicFilterProblem,
  topicNameProblem,
} from '../../src/ingress/topic.ts';

const level = fc.constantFrom('', 'a', 'b', 'aa', '$x');
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('/'));
const filter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 0, maxLength: 4 }), fc.boolean())
  .map(([levels, hash]) => [...levels, ...(hash || levels.length === 0 ? ['#'] : [])].join('/'));

/** Section 4.7 as a regular expression: another way to the same answer. */
function oracle(pattern: string, name: string): boolean {
  if (name.startsWith('$') && /^[+#]/.test(pattern)) return false;
  if (pattern === '#') return true;
  const source = pattern
    .split('/')
    .map((part) => (part === '+' ? '[^/]*' : part.replace('$', '\\$')))
    .join('/')
    .replace(/\/#$/, '(/.*)?');
  return new RegExp(`^${source}$`).test(name);
}

describe('topics', () => {
  it('match filters as section 4.7 says', () => {
    fc.assert(
      fc.property(filter, topic, (pattern, name) => {
        assert.equal(matchesTopic(pattern.split('/'), name), oracle(pattern, name), `${pattern} ~ ${name}`);
      }),
      { numRuns: 3_000 },
    );
  });

  it('match the examples of the standard [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.2-1]', () => {
    for (const [pattern, name, expected] of [
      ['sport/tennis/player1/#', 'sport/tennis/player1', true],
      ['sport/tennis/player1/#', 'sport/tennis/player1/ranking', true],
      ['sport/#', 'sport', true],
      ['#', 'sport', true],
      ['sport/tennis/+', 'sport/tennis/player1/ranking', false],
      ['sport/+', 'sport', false],
      ['sport/+', 'sport/', true],
      ['+/+', '/finance', true],
      ['/+', '/finance', true],
      ['+', '/finance', false],
      ['#', '$SYS/x', false],
      ['+/monitor/Clients', '$SYS/monitor/Clients', false],
      ['$SYS/#', '$SYS/monitor/Clients', true],
      ['$SYS/monitor/+', '$SYS/monitor/Clients', true],
    ] as const) {
      assert.equal(matchesTopic(pattern.split('/'), name), expected, `${pattern} ~ ${name}`);
    }
  });

  it('are names with at most so many levels, without wildcards', () => {
    assert.equal(topicNameProblem('a/b/c', 3), null);
    assert.equal(topicNameProblem('a/b/c/', 3), TOO_MANY_LEVELS);
    for (const bad of ['', 'a/+', '#', 'a\0', 'a\ufffd']) assert.match(topicNameProblem(bad, 10)!, /MQTT/);
  });

  it('have filters whose wildcards are whole levels', () => {
    for (const good of ['#', '+', 'a/#', '+/a/+', '/', '']) {
      assert.equal(topicFilterProblem(good, 10) === null, good !== '', good);
    }
    for (const bad of ['a#', '#/a', 'a/#/b', '+a', 'a+/b', '++', '##']) assert.ok(topicFilterProblem(bad, 10), bad);
  });
});

describe('a rule', () => {
  it('covers a filter only if it matches every topic that the filter matches', () => {
    fc.assert(
      fc.property(filter, filter, topic, (rule, asked, name) => {
        if (!coversFilter(rule.split('/'), asked.split('/'))) return;
        if (oracle(asked, name)) assert.ok(oracle(rule, name), `${rule} covers ${asked}, but does not match ${name}`);
      }),
      { numRuns: 5_000 },
    );
  });

  it('covers itself, and what is narrower', () => {
    for (const [rule, asked, expected] of [
      ['a/#', 'a/#', true],
      ['a/#', 'a', true],
      ['a/#', 'a/b/+', true],
      ['a/+', 'a/b', true],
      ['a/+', 'a/+', true],
      ['a/+', 'a/#', false],
      ['a/+/#', 'a/#', false],
      ['a/b', 'a/+', false],
      ['+/b', '#', false],
      ['#', '#', true],
      ['#', '$SYS/#', false],
      ['$SYS/#', '$SYS/x', true],
    ] as const) {
      assert.equal(coversFilter(rule.split('/'), asked.split('/')), expected, `${rule} ~ ${asked}`);
    }
  });
});

describe('a tree of filters', () => {
  it('finds just the owners that have a matching filter, each once, through any adding and removing', () => {
    const step = fc.record({ add: fc.boolean(), owner: fc.constantFrom('x', 'y', 'z'), filter });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.array(topic, { maxLength: 5 }), (steps, names) => {
        const tree = new FilterTree<string, string>();
        const kept = new Map<string, Set<string>>();
        for (const { add, owner, filter: pattern } of steps) {
          const filters = kept.get(owner) ?? new Set();
          kept.set(owner, filters);
          if (add) {
            tree.set(pattern, owner, owner);
            filters.add(pattern);
          } else {
            tree.remove(pattern, owner);
            filters.delete(pattern);
          }
        }
        for (const name of names) {
          const expected = [...kept].filter(([, filters]) => [...filters].some((pattern) => oracle(pattern, name)));
          assert.deepEqual(tree.match(name).sort(), expected.map(([owner]) => owner).sort(), name);
        }
        assert.equal(
          tree.size,
          [...kept.values()].reduce((sum, filters) => sum + filters.size, 0),
        );
      }),
      { numRuns: 1_000 },
    );
  });
});
