/** What the benches of the rollup are fed with: readings of three metrics, as the gateway writes them into the log. */
import type { StoredRecord } from '../../../src/log.ts';
import { encodeReading } from '../../../src/reading.ts';

export const START_MS = 1_700_000_000_000;
export const METRICS = ['temperature', 'humidity', 'pressure'];

/** One device's record: the same bytes again and again, with another time and other last digits. */
export class Template {
  readonly #value: Buffer;
  readonly #key: string;
  readonly #timeAt: number;
  readonly #digitsAt: number[];

  constructor(device: number) {
    this.#key = `device-${device}`;
    const tags = { device: this.#key, site: `site-${device % 7}` };
    const base = 15 + (device % 10);
    const values = { temperature: base + 0.11, humidity: base * 3 + 0.11, pressure: base + 1_000.11 };
    const payload = JSON.stringify({ ts: START_MS, ...values });
    const text = encodeReading({ stream: 'environment', key: this.#key, timeMs: START_MS, tags, values, payload });
    this.#value = Buffer.from(text);
    this.#timeAt = text.indexOf(String(START_MS));
    this.#digitsAt = METRICS.map((metric) => text.indexOf('.11', text.indexOf(metric)) + 1);
  }

  at(offset: number, timeMs: number, round: number): StoredRecord {
    let rest = timeMs;
    for (let i = this.#timeAt + 12; i >= this.#timeAt; i--) {
      const next = Math.floor(rest / 10);
      this.#value[i] = 0x30 + (rest - next * 10);
      rest = next;
    }
    for (let i = 0; i < this.#digitsAt.length; i++) {
      const digits = (round * (7 + 4 * i)) % 100;
      this.#value[this.#digitsAt[i]!] = 0x30 + Math.floor(digits / 10);
      this.#value[this.#digitsAt[i]! + 1] = 0x30 + (digits % 10);
    }
    return {
      offset,
      kind: 'reading',
      key: this.#key,
      receivedMs: timeMs + 3,
      stream: 'environment',
      topic: '',
      value: this.#value,
    };
  }
}
