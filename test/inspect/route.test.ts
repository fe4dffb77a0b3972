import assert from 'node:assert/strict';
import fc from 'fast-check';
import { createRouter } from '../../src/inspect/route.ts';
import { matchTopic } from '../../src/stream.ts';
import { makeStream } from './sample.ts';

const streams = (...templates: string[]) => templates.map((topic, i) => makeStream({ name: `s${i}`, topic }));

describe('Routing a topic to its stream', () => {
  it('finds the stream whose template matches', () => {
    const [a, b] = streams('sensors/{site}/{device}/environment', 'web/{app}/clicks');
    const route = createRouter([a!, b!]);
    assert.equal(route('sensors/berlin/d1/environment'), a);
    assert.equal(route('web/shop/clicks'), b);
  });

  it('answers null for what matches nothing: other levels, other depth, empty levels, broker topics', () => {
    const route = createRouter(streams('sensors/{site}/{device}', '{a}/{b}'));
    for (const topic of ['sensors', 'sensors/x/y/z', 'sensors//d', 'a/', '/b', '', '/', '$SYS/broker', 'a/b/c/d']) {
      assert.equal(route(topic), null, topic);
    }
  });

  it('prefers plain text to a capture at the first level where templates differ, in any order', () => {
    const [general, special, later] = streams('{a}/{b}/{c}', '{a}/x/{c}', '{a}/{b}/y');
    for (const order of [
      [general!, special!, later!],
      [later!, special!, general!],
    ]) {
      const route = createRouter(order);
      assert.equal(route('1/x/y'), special);
      assert.equal(route('1/2/y'), later);
      assert.equal(route('1/2/3'), general);
    }
  });

  it('goes back to a capture when plain text led nowhere', () => {
    const [plain, general] = streams('a/b/c', 'a/{x}/d');
    const route = createRouter([plain!, general!]);
    assert.equal(route('a/b/d'), general);
    assert.equal(route('a/b/c'), plain);
  });

  it('keeps the first of two templates that match the same topics', () => {
    const [first, second] = streams('a/{x}', 'a/{y}');
    assert.equal(createRouter([first!, second!])('a/1'), first);
  });

  it('matches exactly when some template does', () => {
    const level = fc.constantFrom('a', 'b', '{x}', '{y}', '');
    const template = fc
      .array(level, { minLength: 1, maxLength: 5 })
      .filter(
        (levels) =>
          new Set(levels.filter((l) => l.startsWith('{'))).size === levels.filter((l) => l.startsWith('{')).length,
      )
      .map((levels) => levels.join('/'))
      .filter((text) => text !== '');
    const topic = fc.array(fc.constantFrom('a', 'b', 'c', ''), { minLength: 1, maxLength: 5 }).map((l) => l.join('/'));
    fc.assert(
      fc.property(fc.array(template, { maxLength: 12 }), topic, (templates, text) => {
        const all = streams(...templates);
        const found = createRouter(all)(text);
        assert.equal(
          found !== null,
          all.some((stream) => matchTopic(stream.topic, text) !== null),
        );
        if (found) assert.notEqual(matchTopic(found.topic, text), null);
      }),
    );
  });
});
