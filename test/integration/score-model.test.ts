/** A model of the user in the running program: its scores beside ours, and rows that go on whatever it does. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { linearModel } from '../support/onnx.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 40_000;

describe('A model of the user, in the running program', function () {
  this.timeout(90_000);
  let folder: string;
  let gateway: GatewayProcess | null = null;
  let device: RawClient | null = null;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-score-model-'));
    mkdirSync(join(folder, 'models'));
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') console.log(gateway?.log());
    device?.end();
    await gateway?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  async function start(model: Buffer | string): Promise<GatewayProcess> {
    writeFileSync(join(folder, 'models', 'sum of three.onnx'), model);
    const yaml = `rollup: { grace: 0s, disorder: 200ms, tick: 250ms, flush: 250ms }
streams:
  s: { topic: "s/{device}", time: ts, metrics: [v], windows: [1s], score: { model: { file: "models/sum of three.onnx", windows: 3 } } }
`;
    gateway = await startGateway({ folder, yaml });
    device = await RawClient.connected(gateway.mqttPort, { clientId: 'd1' });
    return gateway;
  }

  /** Publishes the same value again and again until it is so. */
  async function measuring(value: number, condition: () => Promise<boolean>, what: string): Promise<void> {
    let [measuredMs, packetId] = [0, 0];
    const publish = () => {
      if (systemClock.monotonicMs() - measuredMs < 200) return;
      device!.publish('s/d1', `{"ts":${systemClock.nowMs()},"v":${value}}`, 1, (packetId++ % 60_000) + 1);
      measuredMs = systemClock.monotonicMs();
    };
    await until(
      async () => {
        publish();
        return condition();
      },
      DEADLINE_MS,
      what,
    );
  }

  const linesOf = async (path: string) => {
    const text = await (await gateway!.get(path)).text();
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  };

  it('scores the newest windows of each series, and names itself in what it says', async () => {
    await start(linearModel([1, 1, 1]));
    const scores = () => linesOf('/api/v1/scores?stream=s&window=1s');
    await measuring(7, async () => (await scores()).length >= 2, 'there are scores');
    const [{ tags, score, value, alarm }] = await scores();
    assert.deepEqual(
      { tags, score, value, alarm },
      {
        tags: { _model: 'sum_of_three', device: 'd1' },
        score: 21,
        value: 7,
        alarm: false,
      },
    );
  });

  it('is missed, and not waited for, when its file is none', async () => {
    const running = await start('no model');
    await measuring(7, async () => (await running.metric('millrace_model_failures_total')) > 0, 'it fails');
    await measuring(7, async () => (await linesOf('/api/v1/rows?stream=s&window=1s')).length > 2, 'rows go on');
    assert.match(running.log(), /the model sum_of_three does not score/);
    assert.equal(await running.end('SIGTERM'), 0);
  });
});
