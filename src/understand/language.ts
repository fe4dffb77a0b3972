/**
 * English text as wink-nlp reads it, with the model that comes in its package: nothing is loaded from anywhere, and the same
 * text always gives the same. Pure but for the memory of the model, about 30 MB, which is why it lives in a thread of its own.
 */
import model from 'wink-eng-lite-web-model';
import winkNLP from 'wink-nlp';

/** Characters of a message that are read; what is beyond changes nothing. */
export const MAX_TEXT = 4_096;

export interface Read {
  /** -1 = as bad as can be, 1 = as good. */
  readonly sentiment: number;
  /** In lower case. */
  readonly words: readonly string[];
}

export class Language {
  readonly #nlp = winkNLP(model, ['sbd', 'negation', 'sentiment']);

  read(text: string): Read {
    const { its } = this.#nlp;
    const document = this.#nlp.readDoc(text.slice(0, MAX_TEXT));
    const sentiment = document.out(its.sentiment) as unknown as number;
    return { sentiment: sentiment === 0 ? 0 : sentiment, words: document.tokens().out(its.normal) };
  }

  /** What the classifier of intents sees of a text: the stems of its words, and whether it asks. */
  features(text: string): string[] {
    const { its } = this.#nlp;
    const tokens = this.#nlp.readDoc(text.slice(0, MAX_TEXT)).tokens();
    const stems = tokens
      .filter((token) => token.out(its.type) === 'word')
      .out(its.stem as never) as unknown as string[];
    if (tokens.out().includes('?')) stems.push('?');
    return stems;
  }
}
