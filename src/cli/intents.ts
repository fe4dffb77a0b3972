/**
 * `millrace intents`: what a labelled file of intents is worth. Ten times trained with nine tenths of it, asked for the last
 * tenth; the same file gives the same numbers. With a text: what would be understood of it. Exit 2 = the file cannot be used.
 */
import { readExamples } from '../parts/understand.ts';
import { FOLDS, heldOut, train } from '../understand/intents.ts';
import { Language } from '../understand/language.ts';
import { EXIT, report, type Terminal } from './terminal.ts';

export interface IntentsOptions {
  readonly train: string;
  readonly text?: string;
  readonly json?: boolean;
}

export async function intents(options: IntentsOptions, terminal: Terminal): Promise<number> {
  const examples = await readExamples(options.train);
  if (!examples.ok) return report(examples.failure, terminal);
  const language = new Language();
  if (options.text !== undefined) {
    const intent = train(examples.value, language).of(options.text);
    const { sentiment } = language.read(options.text);
    if (options.json) terminal.out(JSON.stringify({ intent, sentiment }));
    else terminal.out(`intent ${intent}, sentiment ${sentiment.toFixed(2)}`);
    return EXIT.ok;
  }
  const quality = heldOut(examples.value, language);
  if (options.json) {
    terminal.out(JSON.stringify({ file: options.train, folds: FOLDS, ...quality }));
    return EXIT.ok;
  }
  const percent = (part: number | null) => (part === null ? '-' : `${(100 * part).toFixed(1)} %`);
  const width = Math.max('intent'.length, ...quality.intents.map(({ intent }) => intent.length));
  const line = (intent: string, ...cells: string[]) =>
    terminal.out(`${intent.padEnd(width)}  ${cells.map((cell) => cell.padStart(9)).join('  ')}`);
  line('intent', 'messages', 'precision', 'recall');
  for (const { intent, examples: count, precision, recall, confused } of quality.intents) {
    const taken = confused ? `  mostly taken for: ${confused.intent}, ${confused.count}` : '';
    line(intent, String(count), percent(precision), `${percent(recall)}${taken}`);
  }
  const { right, accuracy, baseline } = quality;
  terminal.out(
    `held-out accuracy ${percent(accuracy)}: ${right} of ${quality.examples} messages, each asked for by a classifier trained without it (${FOLDS} folds); always the most frequent intent: ${percent(baseline)}`,
  );
  return EXIT.ok;
}
