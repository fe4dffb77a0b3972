/**
 * What a customer wants: a naive Bayes classifier, trained when the thread starts from a labelled file of the user, which takes
 * milliseconds. The same file gives the same classifier.
 *
 * The file: an intent, a tab, a message that means it, one a line; empty lines and lines that begin with # are passed over.
 * How good it is on messages that it has not seen: `heldOut`, which trains with nine tenths and asks for the last, ten times.
 */
import createClassifier from 'wink-naive-bayes-text-classifier';
import { fail, type Outcome, succeed } from '../errors.ts';
import type { Language } from './language.ts';

export interface Example {
  readonly intent: string;
  readonly text: string;
}

export interface Intents {
  /** NO_INTENT when no word of the text was in any example. */
  of(text: string): string;
}

/** Of messages that say nothing known, and of agents' rows without a question before them. */
export const NO_INTENT = 'unknown';
export const MAX_EXAMPLES = 50_000;
export const MAX_INTENTS = 100;
export const FOLDS = 10;
/** An intent must be in the part that is trained with and in the part that is asked for. */
const MIN_EXAMPLES = 2;
const SMOOTHING = 0.5;
const INTENT = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;

export function parseExamples(text: string, file: string): Outcome<readonly Example[]> {
  const examples: Example[] = [];
  const counts = new Map<string, number>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const tab = line.indexOf('\t');
    const [intent, message] = [line.slice(0, Math.max(tab, 0)).trim(), line.slice(tab + 1).trim()];
    const wrong = (what: string) => fail('CONFIG_INVALID', `${file}:${index + 1}: ${what}`);
    if (tab < 0) return wrong('has no tab: write an intent, a tab and a message');
    if (!INTENT.test(intent)) {
      return wrong(`${JSON.stringify(intent)} is not the name of an intent: letters, digits, dot, dash and underscore`);
    }
    if (message === '') return wrong('has no message after the tab');
    if (intent === NO_INTENT) return wrong(`${NO_INTENT} is kept for messages that say nothing known`);
    examples.push({ intent, text: message });
    counts.set(intent, (counts.get(intent) ?? 0) + 1);
    if (examples.length > MAX_EXAMPLES) return wrong(`more than ${MAX_EXAMPLES} messages`);
    if (counts.size > MAX_INTENTS) return wrong(`more than ${MAX_INTENTS} intents`);
  }
  if (counts.size < 2) return fail('CONFIG_INVALID', `${file}: needs at least two intents and has ${counts.size}`);
  for (const [intent, count] of counts) {
    if (count < MIN_EXAMPLES) {
      return fail('CONFIG_INVALID', `${file}: ${intent} has ${count} message and needs at least ${MIN_EXAMPLES}`);
    }
  }
  return succeed(examples);
}

export function train(examples: readonly Example[], language: Language): Intents {
  const classifier = createClassifier();
  const known = new Set<string>();
  classifier.definePrepTasks([(text) => language.features(text)]);
  classifier.defineConfig({ considerOnlyPresence: true, smoothingFactor: SMOOTHING });
  for (const { text, intent } of examples) {
    classifier.learn(text, intent);
    for (const feature of language.features(text)) known.add(feature);
  }
  classifier.consolidate();
  return {
    of: (text) =>
      language.features(text).some((feature) => feature !== '?' && known.has(feature))
        ? classifier.predict(text)
        : NO_INTENT,
  };
}

export interface IntentQuality {
  readonly intent: string;
  readonly examples: number;
  /** Of those that were taken for it, how many were it; null when none was. */
  readonly precision: number | null;
  /** Of those that were it, how many were found. */
  readonly recall: number;
  /** What it was most often taken for instead, and how often; null when never. */
  readonly confused: { readonly intent: string; readonly count: number } | null;
}

export interface Quality {
  readonly examples: number;
  readonly right: number;
  readonly accuracy: number;
  /** By always saying the intent that has the most examples. */
  readonly baseline: number;
  readonly intents: readonly IntentQuality[];
}

/** Every example is asked for once, by a classifier that has not seen it. The folds are dealt by intent, in the file's order. */
export function heldOut(examples: readonly Example[], language: Language): Quality {
  const seen = new Map<string, number>();
  const folds = examples.map(({ intent }) => {
    const nth = seen.get(intent) ?? 0;
    seen.set(intent, nth + 1);
    return nth % FOLDS;
  });
  const taken = new Map<string, Map<string, number>>();
  let right = 0;
  for (let fold = 0; fold < FOLDS; fold++) {
    const asked = examples.filter((_, i) => folds[i] === fold);
    if (asked.length === 0) continue;
    const intents = train(
      examples.filter((_, i) => folds[i] !== fold),
      language,
    );
    for (const { intent, text } of asked) {
      const said = intents.of(text);
      if (said === intent) right++;
      const row = taken.get(intent) ?? new Map<string, number>();
      row.set(said, (row.get(said) ?? 0) + 1);
      taken.set(intent, row);
    }
  }
  const saidOf = (intent: string) => [...taken.values()].reduce((sum, row) => sum + (row.get(intent) ?? 0), 0);
  return {
    examples: examples.length,
    right,
    accuracy: right / examples.length,
    baseline: Math.max(...seen.values()) / examples.length,
    intents: [...seen].map(([intent, count]) => {
      const row = taken.get(intent)!;
      const hits = row.get(intent) ?? 0;
      const said = saidOf(intent);
      const [worst] = [...row].filter(([other]) => other !== intent).sort((a, b) => b[1] - a[1]);
      return {
        intent,
        examples: count,
        precision: said === 0 ? null : hits / said,
        recall: hits / count,
        confused: worst ? { intent: worst[0], count: worst[1] } : null,
      };
    }),
  };
}
