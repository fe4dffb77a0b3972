/**
 * What Grafana does with a dashboard, as far as tests need it: its panels, and its variables put into a query. And the metrics
 * that panels and alert rules ask Prometheus for.
 */
import { readFileSync } from 'node:fs';
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { parse } from 'yaml';
import { dashboards, sampleDashboards } from '../../compose/grafana/generate.ts';

export interface Panel {
  readonly type: string;
  readonly title?: string;
  readonly description?: string;
  readonly datasource?: { readonly uid?: string };
  readonly targets?: readonly { readonly query?: string; readonly expr?: string; readonly legendFormat?: string }[];
}

/** One, several, or, as Grafana's own choice "All", what the variable says that stands for. */
export type Chosen = Readonly<Record<string, string | readonly string[]>>;

export function panelsOf(board: Dashboard): Panel[] {
  return ((board.panels ?? []) as Panel[]).filter(({ type }) => type !== 'row');
}

/** A query in InfluxQL as it is sent: one value escaped for a regular expression, several as alternatives. */
export function filled(query: string, chosen: Chosen, timeFilter = 'time > now() - 1h'): string {
  return query.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, bare) => {
    const name: string = braced ?? bare;
    if (name === 'timeFilter') return timeFilter;
    if (name === '__interval') return '10s';
    const value = chosen[name];
    if (value === undefined) throw new Error(`${whole} has no value in ${query}`);
    if (value === '.*') return value;
    return typeof value === 'string' ? escaped(value) : `(${value.map(escaped).join('|')})`;
  });
}

function escaped(text: string): string {
  return text.replace(/[\\^$*+?.()|[\]{}/]/g, '\\$&');
}

/** One expression of a panel or an alert rule, as far as its names go. */
export interface Asked {
  /** Panel or rule. */
  readonly by: string;
  /** With the labels that its own braces name; the parts of a histogram are that histogram. */
  readonly metrics: readonly { readonly name: string; readonly labels: readonly string[] }[];
  /** By which it groups or joins, and those that a legend shows: at least one of the metrics has to have each. */
  readonly labels: readonly string[];
}

/** All that panels and alert rules ask of Prometheus. */
export function expressionsAsked(): Asked[] {
  const boards = Object.values({ ...dashboards(), ...sampleDashboards() });
  const panels = boards
    .flatMap(panelsOf)
    .flatMap(({ title = '', targets = [] }) =>
      targets.flatMap(({ expr, legendFormat = '' }) => (expr ? [{ by: title, expr, legend: legendFormat }] : [])),
    );
  const file = parse(readFileSync(new URL('../../compose/prometheus/alerts.yaml', import.meta.url), 'utf8')) as {
    groups: { rules: { alert: string; expr: string }[] }[];
  };
  const rules = file.groups.flatMap((group) => group.rules).map(({ alert, expr }) => ({ by: alert, expr, legend: '' }));
  return [...panels, ...rules].map(({ by, expr, legend }) => ({
    by,
    metrics: metricsIn(expr),
    labels: [...groupedBy(expr), ...Array.from(legend.matchAll(/\{\{(\w+)\}\}/g), ([, name]) => name!)],
  }));
}

/** Metrics that a process shows, by the line that says their type. */
export function exportedMetrics(text: string): Set<string> {
  return new Set(Array.from(text.matchAll(/^# TYPE (\S+) \w+$/gm), ([, name]) => name!));
}

/** What Prometheus itself makes. */
const OF_PROMETHEUS = ['up'];
const GROUPING = /\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)/g;
const OPERATORS = new Set(['and', 'or', 'unless', 'by', 'on', 'bool', 'offset', 'group_left', 'group_right']);

/** Every name that is neither a function, which a bracket follows, nor a word of the language. */
function metricsIn(expr: string): { name: string; labels: string[] }[] {
  const bare = expr.replace(GROUPING, ' ').replace(/\[[^\]]*\]/g, '');
  const names = bare.matchAll(/(?<![\w"{])([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?(?!\w|\s*\()/g);
  return Array.from(names, ([, name, braces = '']) => ({
    name: name!.replace(/_(bucket|sum|count)$/, ''),
    labels: Array.from(braces.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g), ([, label]) => label!),
  })).filter(({ name }) => !OPERATORS.has(name) && !OF_PROMETHEUS.includes(name));
}

function groupedBy(expr: string): string[] {
  return Array.from(expr.matchAll(GROUPING), ([, inner]) => inner!.split(/\s*,\s*/).filter(Boolean)).flat();
}
