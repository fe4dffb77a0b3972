import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseExpression } from '../src/expression.ts';

function value(text: string, values: Record<string, number> = {}): number | null {
  const expression = parseExpression(text);
  if (typeof expression === 'string') assert.fail(expression);
  return expression.evaluate(values);
}

describe('Expressions', () => {
  const right: [text: string, result: number][] = [
    ['1 + 2 * 3', 7],
    ['(1 + 2) * 3', 9],
    ['10 - 4 - 3', 3],
    ['16 / 4 / 2', 2],
    ['-2 * -3', 6],
    ['--2', 2],
    ['2 - -1', 3],
    ['1.5e3 + .5', 1500.5],
    ['min(3, 1, 2) + max(1, 2)', 3],
    ['sqrt(abs(-16))', 4],
    ['a * b', 6],
    ['env.temp - 273.15', 26.850000000000023],
    ['`Inputs/count` / 2', 4],
    ['min + 1', 101],
  ];
  const values = { a: 2, b: 3, 'env.temp': 300, 'Inputs/count': 8, min: 100 };
  for (const [text, result] of right) {
    it(`reads ${text} as ${result}`, () => assert.equal(value(text, values), result));
  }

  it('are absent where a metric is, and any number otherwise', () => {
    assert.equal(value('a + missing', values), null);
    assert.equal(value('toString + 1', {}), null);
    assert.equal(value('1 / 0'), Number.POSITIVE_INFINITY);
  });

  for (const text of [
    ...[
      '',
      ' ',
      '1 +',
      '* 2',
      '(1',
      '1)',
      '1 2',
      'a b',
      'min(1)',
      'abs(1, 2)',
      'sqrt()',
      'foo(1)',
      '1 ^ 2',
      'a.b(',
      '"a"',
      '`a',
    ],
    ...['a; b', 'a = 1', '()', ',', '1,2', '('.repeat(100), `${'1+'.repeat(300)}1`],
  ]) {
    it(`refuse ${JSON.stringify(text.slice(0, 30))} in a sentence`, () =>
      assert.equal(typeof parseExpression(text), 'string'));
  }

  it('say what arithmetic says', () => {
    const { tree } = fc.letrec<{ tree: string }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom('a', 'b', '2', '0.5', '10'),
        fc
          .tuple(tie('tree'), fc.constantFrom('+', '-', '*', '/'), tie('tree'))
          .map(([x, op, y]) => `(${x} ${op} ${y})`),
        fc
          .tuple(tie('tree'), fc.constantFrom('+', '-', '*', '/'), fc.constantFrom('a', '3'))
          .map((parts) => parts.join(' ')),
      ),
    }));
    fc.assert(
      fc.property(tree, fc.integer(), fc.integer(), (text, a, b) => {
        const parsed = parseExpression(text);
        if (typeof parsed === 'string') return;
        const expected = new Function('a', 'b', `return ${text}`)(a, b) as number;
        const found = parsed.evaluate({ a, b });
        assert.ok(Object.is(found, expected), `${text}: ${found}, not ${expected}`);
      }),
    );
  });

  it('answer any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ab1.e+-*/(),` ') }), (text) => void parseExpression(text)),
    );
  });
});
