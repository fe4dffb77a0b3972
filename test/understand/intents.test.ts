import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FOLDS, heldOut, MAX_INTENTS, NO_INTENT, parseExamples, train } from '../../src/understand/intents.ts';
import { EXAMPLES, intents, language } from './sample.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const SHIPPED = `${root}compose/samples/chat/intents.tsv`;

function shipped() {
  const examples = parseExamples(readFileSync(SHIPPED, 'utf8'), SHIPPED);
  assert.ok(examples.ok);
  return examples.value;
}

describe('A labelled file', () => {
  const parse = (text: string) => parseExamples(text, 'f.tsv');
  const GOOD = 'a\tone\na\ttwo\nb\tthree\nb\tfour\n';

  it('is an intent, a tab and a message a line, with comments and empty lines between', () => {
    const parsed = parse(`# comment\r\n\r\n${GOOD}`);
    assert.ok(parsed.ok);
    assert.deepEqual(parsed.value[2], { intent: 'b', text: 'three' });
    assert.equal(parsed.value.length, 4);
  });

  for (const [what, text, message] of [
    ['without a tab', `${GOOD}hello there\n`, /^f\.tsv:5: has no tab/],
    ['with a name that cannot be a tag', `${GOOD}so what\tx\n`, /^f\.tsv:5: "so what" is not the name of an intent/],
    ['without a message', `${GOOD}a\t \n`, /^f\.tsv:5: has no message/],
    ['with the name for what is not known', `${GOOD}${NO_INTENT}\tx\n`, /is kept for messages that say nothing known/],
    ['with one intent', 'a\tone\na\ttwo\n', /needs at least two intents and has 1/],
    ['with a single message for an intent', `${GOOD}c\tx\n`, /c has 1 message and needs at least 2/],
    [
      'with too many intents',
      Array.from({ length: MAX_INTENTS + 1 }, (_, i) => `i${i}\tx\ni${i}\ty`).join('\n'),
      new RegExp(`more than ${MAX_INTENTS} intents`),
    ],
  ] as const) {
    it(`${what} is refused with line and reason`, () => {
      const parsed = parse(text);
      assert.ok(!parsed.ok);
      assert.match(parsed.failure.message, message);
    });
  }
});

describe('The classifier of intents', () => {
  it('finds the intent of a message that it has not seen', () => {
    assert.equal(intents.of('My parcels are still with the courier!'), 'delivery');
    assert.equal(intents.of('Is the system down?'), 'outage');
  });

  it('says unknown to what has no word of any example, instead of the most frequent intent', () => {
    assert.equal(intents.of('qwertz asdf?'), NO_INTENT);
    assert.equal(intents.of(''), NO_INTENT);
  });

  it('says the same after another training with the same file', () => {
    const again = train(shipped(), language);
    const first = train(shipped(), language);
    for (const { text } of shipped()) assert.equal(again.of(text), first.of(text));
  });

  it('is judged only by examples that it was not trained with', () => {
    // One word for each message and nothing in common: what was not seen cannot be known.
    const strangers = Array.from({ length: 40 }, (_, i) => ({
      intent: i % 2 ? 'a' : 'b',
      text: `w${'xyz'[i % 3]}q${i}`,
    }));
    assert.equal(heldOut(strangers, language).right, 0);
    // The same with a word that tells them apart.
    const friends = strangers.map(({ intent, text }) => ({
      intent,
      text: `${text} ${intent === 'a' ? 'red' : 'blue'}`,
    }));
    assert.equal(heldOut(friends, language).accuracy, 1);
  });

  it('adds up: every example is asked for once', () => {
    const quality = heldOut(EXAMPLES, language);
    assert.equal(
      quality.intents.reduce((sum, { examples }) => sum + examples, 0),
      EXAMPLES.length,
    );
    assert.equal(quality.baseline, 0.5);
  });

  it('is worth on the shipped file what the README says', () => {
    const { accuracy, examples } = heldOut(shipped(), language);
    const readme = readFileSync(`${root}README.md`, 'utf8').replaceAll(/\s+/g, ' ');
    const said = /held-out accuracy of ([\d.]+) % on ([\d,]+) messages \((\d+) folds/.exec(readme);
    assert.deepEqual(said?.slice(1), [(100 * accuracy).toFixed(1), examples.toLocaleString('en'), String(FOLDS)]);
  });
});
