/** How many lines a thread writes, and that none is left out in silence. */
import assert from 'node:assert/strict';
import { startTelemetry } from '../src/logger.ts';
import { until } from './support/until.ts';

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly suppressed?: number;
  readonly levels?: Record<string, number>;
}

function logging(linesPerSecond: number) {
  const lines: Line[] = [];
  const time = { ms: 0 };
  const telemetry = startTelemetry(
    { level: 'info', pretty: false, name: 'main', linesPerSecond },
    { write: (line) => lines.push(JSON.parse(line)) },
    () => time.ms,
  );
  const metric = async (name: string) => {
    const found = (await telemetry.snapshot()).find((each) => each.name === name);
    return Object.fromEntries((found?.values ?? []).map(({ labels, value }) => [Object.values(labels).join(), value]));
  };
  return { lines, time, telemetry, metric };
}

describe('The log', () => {
  it('has no more lines a second than log.lines_per_second, counts what it leaves out, and begins anew after the second', async () => {
    const { lines, time, telemetry, metric } = logging(3);
    for (let i = 0; i < 5; i++) telemetry.log.warn(`line ${i}`);
    time.ms = 999;
    telemetry.log.error('still the same second');
    assert.deepEqual(
      lines.map(({ msg }) => msg),
      ['line 0', 'line 1', 'line 2'],
    );
    time.ms = 1_000;
    telemetry.log.info('the next second');
    assert.equal(lines.at(-1)?.msg, 'the next second');
    assert.deepEqual(await metric('millrace_log_lines_suppressed_total'), { warn: 2, error: 1 });
    assert.deepEqual(await metric('millrace_limit_reached_total'), { log_lines: 3 });
  });

  it('says how many lines were left out, as loudly as the loudest of them, though no later line comes', async () => {
    const { lines, telemetry } = logging(1);
    telemetry.log.warn('the only one');
    telemetry.log.warn('left out');
    telemetry.log.error('left out too');
    await until(() => lines.length > 1, 5_000, 'the line that says how many');
    assert.equal(lines[1]?.suppressed, 2);
    assert.equal(lines[1]?.level, 50);
    assert.match(lines[1]!.msg, /^2 log lines were left out: log\.lines_per_second/);
  });

  it('ends with the sum of all that was left out, of one kind too, and with the last line of the program', () => {
    const { lines, telemetry } = logging(2);
    telemetry.limited('warn', 'kind', {}, 'first of its kind');
    telemetry.limited('warn', 'kind', {}, 'second of its kind');
    telemetry.log.warn('another');
    telemetry.log.error('beyond');
    telemetry.finishLog();
    telemetry.log.info('stopped');
    const [, , sum, stopped] = lines;
    assert.deepEqual([sum?.msg, sum?.suppressed, sum?.levels], ['2 log lines suppressed', 2, { warn: 1, error: 1 }]);
    assert.equal(stopped?.msg, 'stopped');
  });

  it('says nothing at the end where nothing was left out', () => {
    const { lines, telemetry } = logging(1);
    telemetry.finishLog();
    assert.deepEqual(lines, []);
  });

  it('always has a fatal line', () => {
    const { lines, telemetry } = logging(1);
    telemetry.log.warn('the only one');
    telemetry.log.fatal('the end');
    assert.deepEqual(
      lines.map(({ msg }) => msg),
      ['the only one', 'the end'],
    );
  });
});
