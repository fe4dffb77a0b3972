/** What a stream's configuration says of its values (distinct, derive, range, rate), with everything that cannot work reported. */
import { parseExpression } from '../expression.ts';
import { distinctMetric, type Range, type Rate } from '../stream.ts';
import { join } from './document.ts';
import { nearestName, type Report, show } from './report.ts';
import type { StreamSettings } from './schema.ts';

/** Their rows need a name that no metric has. */
export function checkDistinct({ distinct, metrics, derive }: StreamSettings, at: string, report: Report): void {
  distinct.forEach((field, i) => {
    const metric = distinctMetric(field);
    if (!metrics.includes(metric) && !Object.hasOwn(derive, metric)) return;
    const message = `its rows would have the metric ${metric}, which is one already`;
    report.mistake(join(at, i), {
      message,
      value: field,
      involved: [join(at.slice(0, at.lastIndexOf('/')), 'metrics')],
    });
  });
}

/** A derived metric sees those of the payload and those derived before it. */
export function checkDerived(
  { derive, metrics }: StreamSettings,
  at: string,
  report: Report,
): Readonly<Record<string, string>> {
  const known = [...metrics];
  for (const [name, text] of Object.entries(derive)) {
    const placeAt = join(at, name);
    const expression = parseExpression(text);
    if (known.includes(name)) {
      report.mistake(placeAt, { message: `${show(name)} is already one of the metrics`, value: name, atKey: true });
    }
    if (typeof expression === 'string')
      report.mistake(placeAt, { message: `${show(text)}: ${expression}`, value: text });
    else {
      for (const needed of expression.names.filter((one) => !known.includes(one))) {
        report.mistake(placeAt, {
          message: `${show(needed)} is not one of the metrics`,
          value: needed,
          expected: `one of ${known.join(', ')}`,
          nearest: nearestName(needed, known),
          involved: [join(at.slice(0, at.lastIndexOf('/')), 'metrics')],
        });
      }
    }
    known.push(name);
  }
  return derive;
}

export function readRanges(
  { range, metrics, derive }: StreamSettings,
  at: string,
  report: Report,
): Record<string, Range> {
  const known = [...metrics, ...Object.keys(derive)];
  const ranges: Record<string, Range> = {};
  for (const [name, { min, max, outside }] of Object.entries(range)) {
    const placeAt = join(at, name);
    const isKnown = isMetric(name, known, placeAt, report);
    if (isKnown && min === null && max === null) {
      report.mistake(placeAt, { message: 'has neither min nor max', wayOut: 'add min: or max:' });
    } else if (isKnown && min !== null && max !== null && min > max) {
      report.mistake(join(placeAt, 'min'), { message: `${min} is above max, ${max}`, value: String(min) });
    }
    ranges[name] = { min: min ?? Number.NEGATIVE_INFINITY, max: max ?? Number.POSITIVE_INFINITY, outside };
  }
  return ranges;
}

export function readRates({ rate, metrics, derive }: StreamSettings, at: string, report: Report): Record<string, Rate> {
  const known = [...metrics, ...Object.keys(derive)];
  const rates: Record<string, Rate> = {};
  for (const [name, { max, per, beyond }] of Object.entries(rate)) {
    const placeAt = join(at, name);
    if (isMetric(name, known, placeAt, report) && !(max > 0) && !report.isBroken(placeAt)) {
      report.mistake(join(placeAt, 'max'), { message: 'must be more than 0', value: String(max) });
    }
    rates[name] = { max, perMs: per, beyond };
  }
  return rates;
}

/** Whether the key at this place is the name of a metric; reported where it is not. */
function isMetric(name: string, known: readonly string[], at: string, report: Report): boolean {
  if (known.includes(name)) return true;
  const nearest = nearestName(name, known);
  report.mistake(at, { message: `${show(name)} is not one of the metrics`, value: name, nearest, atKey: true });
  return false;
}
