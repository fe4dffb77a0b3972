/**
 * The tags of a reading: topic captures, payload fields and what the registry knows of the device; and the factors by
 * which the registry scales its metrics. All tags must be there, except registry tags that the device does not have.
 */
import { seriesName } from '../reading.ts';
import type { Document } from './decode/document.ts';
import { readField } from './field.ts';
import type { Plan } from './plan.ts';
import { Problem, show } from './refusal.ts';
import type { Device } from './registry.ts';
import type { Series } from './series.ts';
import { tagFault, tagText } from './tag.ts';

type Captures = Readonly<Record<string, string>>;

/** Shared by all readings of a topic where no tag comes from the payload. */
export interface Tagging {
  readonly tags: Readonly<Record<string, string>>;
  /** As JSON, where they are shared. */
  readonly tagsText?: string;
  /** Unique over all streams. */
  readonly seriesName: string;
  readonly factors: Device['factors'];
  /** Remembered after the first reading; see series.ts. */
  series: Series | null;
}

/** What is wrong with the topic's captures, whatever the payload says. */
export function checkCaptures(captures: Captures, tagBytes: number): Problem | null {
  for (const name of Object.keys(captures)) {
    const fault = tagFault(captures[name]!, tagBytes);
    if (fault !== null)
      return new Problem('tag-invalid', '', `topic level {${name}}: ${show(captures[name])} ${fault}`);
  }
  return null;
}

/** `document` is read only where the plan has tags from the payload. */
export function tagReading(plan: Plan, captures: Captures, document: Document, tagBytes: number): Tagging | Problem {
  const { registry, stream } = plan;
  const device = registry === null ? null : findDevice(plan, captures, document, tagBytes);
  if (device instanceof Problem) return device;
  const tags: Record<string, string> = {};
  for (const slot of plan.tags) {
    if (slot.from === 'topic') {
      tags[slot.name] = captures[slot.name]!;
    } else if (slot.from === 'payload') {
      const text = tagText(readField(document, slot.field), slot.field.pointer, tagBytes);
      if (typeof text !== 'string') return text;
      tags[slot.name] = text;
    } else {
      const text = device?.tags[slot.name];
      if (text !== undefined) tags[slot.name] = text;
    }
  }
  const name = `${stream.name}\n${seriesName(tags)}`;
  const tagsText = plan.tagsByTopic ? JSON.stringify(tags) : undefined;
  return { tags, tagsText, seriesName: name, factors: device?.factors ?? null, series: null };
}

/** Null: the registry does not list it, and the stream accepts that. */
function findDevice(plan: Plan, captures: Captures, document: Document, tagBytes: number): Device | null | Problem {
  const { by, unknown, registry } = plan.stream.enrich!;
  const slot = plan.tags.find((tag) => tag.name === by)!;
  const inTopic = slot.from === 'topic';
  const value = inTopic ? captures[by]! : tagText(readField(document, slot.field), slot.field.pointer, tagBytes);
  if (typeof value !== 'string') return value;
  const device = plan.registry!.get(value);
  if (device) return device;
  if (unknown === 'accept') return null;
  const file = registry.slice(registry.lastIndexOf('/') + 1);
  return new Problem('unknown-device', inTopic ? '' : slot.field.pointer, `${by} ${show(value)} is not in ${file}`);
}
