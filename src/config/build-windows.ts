/** `windows` and `score` of a stream: from what the user wrote to plans, with everything that cannot work reported. */
import { basename } from 'node:path';
import { type ModelPlan, makeWindow, type ScorePlan, type WindowSize } from '../stream.ts';
import { formatDuration } from '../units.ts';
import type { FileAt } from './build.ts';
import { join } from './document.ts';
import { nearestName, type Report, show } from './report.ts';
import type { StreamSettings } from './schema.ts';

/** Ascending; the smallest is the base pane, and all others are merged from it. */
export function readWindows(settings: StreamSettings['windows'], at: string, report: Report): WindowSize[] {
  const written = settings.map(({ size, every }, i) => ({ ...makeWindow(size, every ?? size), at: join(at, i) }));
  const usable = written.filter((window) => window.sizeMs > 0 && window.everyMs > 0 && !report.isBroken(window.at));
  usable.sort((a, b) => a.sizeMs - b.sizeMs || b.everyMs - a.everyMs);
  const base = usable[0];
  usable.forEach((window, i) => {
    const { sizeMs, everyMs, label } = window;
    const size = formatDuration(sizeMs);
    const every = formatDuration(everyMs);
    const value = label;
    if (i > 0 && usable[i - 1]!.label === label) {
      report.mistake(window.at, { message: `the window ${label} is listed twice`, value });
    } else if (sizeMs % everyMs !== 0) {
      report.mistake(window.at, {
        message: `${size} is not a multiple of ${every}, the distance between starts`,
        value,
      });
    } else if (base && window === base && sizeMs !== everyMs) {
      const wayOut = `list ${every} too`;
      const message = 'the smallest window must be a plain one: all others are merged from it';
      report.mistake(window.at, { message, value, wayOut });
    } else if (base && (sizeMs % base.sizeMs !== 0 || everyMs % base.sizeMs !== 0)) {
      const part = sizeMs % base.sizeMs !== 0 ? size : `the distance ${every}`;
      const message = `${part} is not a multiple of ${formatDuration(base.sizeMs)}, the smallest window, from which it is merged`;
      report.mistake(window.at, { message, value, involved: [base.at] });
    }
  });
  return usable.map(({ label, sizeMs, everyMs }) => ({ label, sizeMs, everyMs }));
}

/** Null: nothing is scored. */
export function readScore(
  { score, metrics: written, derive }: StreamSettings,
  windows: readonly WindowSize[],
  at: string,
  report: Report,
  fileAt: FileAt,
): ScorePlan | null {
  const [smallest] = windows;
  if (score === null || smallest === undefined) return null;
  const metrics = [...written, ...Object.keys(derive)];
  const label = score.window ?? smallest.label;
  const labels = windows.map((window) => window.label);
  if (!labels.includes(label)) {
    report.mistake(join(at, 'window'), {
      message: `${show(label)} is not one of the windows`,
      value: label,
      expected: `one of ${labels.join(', ')}`,
      nearest: nearestName(label, labels),
    });
  }
  score.metrics.forEach((metric, i) => {
    if (metrics.includes(metric)) return;
    report.mistake(join(join(at, 'metrics'), i), {
      message: `${show(metric)} is not one of the metrics`,
      value: metric,
      nearest: nearestName(metric, metrics),
    });
  });
  const { statistic, threshold, ahead, model } = score;
  return {
    window: label,
    metrics: score.metrics.length > 0 ? score.metrics : metrics,
    statistic,
    threshold,
    ahead,
    ...(model && { model: readModel(model, join(at, 'model'), fileAt) }),
  };
}

function readModel(
  { name, file, windows }: NonNullable<NonNullable<StreamSettings['score']>['model']>,
  at: string,
  fileAt: FileAt,
): ModelPlan {
  const plain = basename(file)
    .replace(/\.onnx$/i, '')
    .replace(/[^A-Za-z0-9_.-]/g, '_');
  return { name: name ?? (plain || 'model'), file: fileAt(join(at, 'file'), file), windows };
}
