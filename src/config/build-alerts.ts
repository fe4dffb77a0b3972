/** The `alerts:` section: from what the user wrote to rules, with everything that cannot work reported. */
import type { AlertRule, AlertStatistic } from '../alert.ts';
import { parseWindow, rowTags, type Stream } from '../stream.ts';
import { join } from './document.ts';
import { nearestName, type Report, show } from './report.ts';
import type { RuleSettings, Settings } from './schema.ts';

export interface AlertsConfig {
  readonly rules: readonly AlertRule[];
  readonly webhook: { readonly url: string; readonly token: string | null; readonly timeoutMs: number } | null;
  /** Topic of this gateway's own broker, with `{rule}` where the name of the rule goes. */
  readonly mqttTopic: string | null;
}

type Streams = Readonly<Record<string, Stream>>;

/** Settings of more than one kind: alone they are those of a threshold. */
const SHARED = ['metric', 'clear'] as const;
/** Of one kind of rule, the settings that belong to it. */
const KINDS = {
  threshold: ['above', 'below', 'window', 'windows', 'statistic', 'each', ...SHARED],
  silent: ['silent'],
  'dead-letters': ['dead_letters', 'within'],
  score: ['alarm', 'calm', ...SHARED],
} as const;

export function buildAlerts({ alerts }: Settings, streams: Streams, report: Report): AlertsConfig | null {
  if (alerts === null) return null;
  const rules = Object.entries(alerts.rules).flatMap(([name, settings]) => {
    const at = join('/alerts/rules', name);
    return report.isBroken(at) ? [] : (buildRule(name, settings, at, streams, report) ?? []);
  });
  const { webhook, mqtt } = alerts;
  if (webhook && !/^https?:\/\/[^\s/]+/.test(webhook.url)) {
    report.mistake('/alerts/webhook/url', {
      message: `${show(webhook.url)} is not an http address`,
      value: webhook.url,
    });
  }
  if (mqtt && /[#+\0]|^\$/.test(mqtt.topic)) {
    const message = `${show(mqtt.topic)} is not a topic to publish on`;
    report.mistake('/alerts/mqtt/topic', { message, value: mqtt.topic });
  }
  return {
    rules,
    webhook: webhook && { url: webhook.url, token: webhook.token, timeoutMs: webhook.timeout },
    mqttTopic: mqtt?.topic ?? null,
  };
}

function buildRule(name: string, rule: RuleSettings, at: string, streams: Streams, report: Report): AlertRule | null {
  const isWritten = (key: string) => report.isWritten(join(at, key));
  const kinds = kindsOf(isWritten);
  const [kind] = kinds;
  if (kind === undefined || kinds.length > 1) {
    const message = kind ? `is two rules in one: ${kinds.join(' and ')}` : 'does not say when to alert';
    const wayOut = 'give it metric: and above: or below:, or silent:, or dead_letters:, or alarm:';
    report.mistake(at, { message, wayOut, atKey: true, goOn: true });
    return null;
  }
  const stream = rule.stream === null ? null : streams[rule.stream];
  if (stream === undefined || (stream === null && kind !== 'dead-letters')) {
    const names = Object.keys(streams);
    const message = rule.stream === null ? 'needs a stream' : `there is no stream ${show(rule.stream)}`;
    const nearest = rule.stream === null ? null : nearestName(rule.stream, names);
    report.mistake(rule.stream === null ? at : join(at, 'stream'), {
      message,
      value: rule.stream,
      expected: `one of ${names.join(', ')}`,
      nearest,
      atKey: rule.stream === null,
      involved: ['/streams'],
    });
    return null;
  }
  if (kind === 'dead-letters') {
    return { kind, name, stream: rule.stream, count: rule.dead_letters ?? 100, withinMs: rule.within };
  }
  if (rule.each) return buildEach(name, rule, at, stream!, report);
  if (kind === 'score') return buildScore(name, rule, at, stream!, report);
  if (kind === 'silent') return buildSilent(name, rule, at, stream!, report);
  return buildThreshold(name, rule, at, stream!, report);
}

/** More than one: it is two rules in one. */
function kindsOf(isWritten: (key: string) => boolean): (keyof typeof KINDS)[] {
  const kinds = Object.keys(KINDS) as (keyof typeof KINDS)[];
  const isShared = (key: string) => (SHARED as readonly string[]).includes(key);
  const sure = kinds.filter((kind) => KINDS[kind].some((key) => !isShared(key) && isWritten(key)));
  if (sure.length === 0) return SHARED.some(isWritten) ? ['threshold'] : [];
  // A shared setting that none of these has is of a threshold.
  const isHad = SHARED.every(
    (key) => !isWritten(key) || sure.some((kind) => (KINDS[kind] as readonly string[]).includes(key)),
  );
  return isHad ? sure : ['threshold', ...sure];
}

function buildScore(name: string, rule: RuleSettings, at: string, stream: Stream, report: Report): AlertRule | null {
  const { score } = stream;
  const involved = [`/streams/${stream.name}`];
  const mistake = (
    key: string,
    message: string,
    more: { readonly wayOut?: string; readonly nearest?: string | null },
  ) => {
    const place = join(at, key);
    report.mistake(report.isWritten(place) ? place : at, { message, atKey: true, involved, ...more });
    return null;
  };
  if (!rule.alarm)
    return mistake('alarm', 'says no to its own rule', { wayOut: 'give it alarm: true, or leave the rule out' });
  if (score === null) {
    const wayOut = 'give the stream score: true';
    return mistake('alarm', `the stream ${stream.name} is not scored`, { wayOut });
  }
  if (rule.metric !== null && !score.metrics.includes(rule.metric)) {
    const nearest = nearestName(rule.metric, score.metrics);
    return mistake('metric', `the stream ${stream.name} has no scores of ${show(rule.metric)}`, { nearest });
  }
  const clear = rule.clear ?? score.threshold;
  if (clear > score.threshold) {
    const message = `${clear} is above ${score.threshold}, from where on scores are alarms, so the alert would be cleared while it is raised`;
    return mistake('clear', message, {});
  }
  const { window, statistic } = score;
  const { sizeMs, everyMs } = stream.windows.find(({ label }) => label === window)!;
  const by = rowTags(stream).includes(stream.key) ? stream.key : null;
  const { metric, calm } = rule;
  return { kind: 'score', name, stream: stream.name, metric, window, statistic, sizeMs, everyMs, clear, calm, by };
}

function buildSilent(name: string, rule: RuleSettings, at: string, stream: Stream, report: Report): AlertRule | null {
  if (!rowTags(stream).includes(stream.key)) {
    const message = `the key of the stream ${stream.name}, ${show(stream.key)}, is a payload field; rows name devices by tags only`;
    report.mistake(join(at, 'silent'), {
      message,
      wayOut: 'list it in tags: of the stream',
      involved: [`/streams/${stream.name}`],
    });
    return null;
  }
  return { kind: 'silent', name, stream: stream.name, by: stream.key, silentMs: rule.silent! };
}

function buildEach(name: string, rule: RuleSettings, at: string, stream: Stream, report: Report): AlertRule | null {
  for (const key of ['window', 'windows', 'statistic']) {
    const place = join(at, key);
    const message = 'is of windows, and each: true judges single readings';
    if (report.isWritten(place)) report.mistake(place, { message, atKey: true, involved: [join(at, 'each')] });
  }
  const [window] = stream.windows;
  // The rest is as with windows; a reading has no statistic.
  const like = { ...rule, window: window?.label ?? null, statistic: 'mean' as const };
  const threshold = buildThreshold(name, like, at, stream, report);
  if (threshold?.kind !== 'threshold') return null;
  const { metric, above, below, clear } = threshold;
  return {
    kind: 'each',
    name,
    stream: stream.name,
    metric,
    by: stream.key,
    above,
    below,
    clear,
    forgetMs: rule.forget,
  };
}

function buildThreshold(
  name: string,
  rule: RuleSettings,
  at: string,
  stream: Stream,
  report: Report,
): AlertRule | null {
  const { above, below, windows } = rule;
  const statistic: AlertStatistic = rule.statistic;
  const metric = rule.metric ?? (stream.metrics.length === 0 ? '' : null);
  const mistake = (key: string, message: string, value: string | null, known: readonly string[]) => {
    const place = join(at, key);
    report.mistake(report.isWritten(place) ? place : at, {
      message,
      value,
      expected: known.length > 0 ? `one of ${known.join(', ')}` : null,
      nearest: value === null ? null : nearestName(value, known),
      atKey: !report.isWritten(place),
      involved: [`/streams/${stream.name}`],
      goOn: true,
    });
    return null;
  };
  if (metric === null) return mistake('metric', 'needs a metric', null, stream.metrics);
  if (metric !== '' && !stream.metrics.includes(metric)) {
    return mistake('metric', `the stream ${stream.name} has no metric ${show(metric)}`, metric, stream.metrics);
  }
  if (metric === '' && statistic !== 'count') {
    return mistake('statistic', `the windows of ${stream.name} only count events`, statistic, ['count']);
  }
  const labels = stream.windows.map(({ label }) => label);
  const window = rule.window === null ? labels[0]! : (parseWindow(rule.window)?.label ?? rule.window);
  if (!labels.includes(window)) {
    return mistake('window', `the stream ${stream.name} has no window ${show(window)}`, window, labels);
  }
  if ((above === null) === (below === null)) {
    return mistake(
      'above',
      above === null ? 'needs above: or below:' : 'has above: and below:, which are two rules',
      null,
      [],
    );
  }
  const clear = rule.clear ?? above ?? below!;
  if (above !== null ? clear > above : clear < below!) {
    const [word, limit] = above !== null ? ['above', above] : ['below', below!];
    return mistake('clear', `${clear} is ${word} ${limit}, so the alert would be cleared while it is raised`, null, []);
  }
  return { kind: 'threshold', name, stream: stream.name, metric, window, statistic, above, below, clear, windows };
}
