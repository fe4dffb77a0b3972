/**
 * The chat sample as it ships, with other ports and shorter windows: messages over MQTT and by HTTP, understood, counted by agent
 * and intent with the time to the first answer, an angry one told to a subscriber, over a kill -9 between question and answer, and the rows
 * verified against the log. On the embedded default, and on real Kafka and InfluxDB.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Alert } from '../../src/alert.ts';
import { systemClock } from '../../src/clock.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { RawClient } from '../support/mqtt-raw.ts';
import { onServers, rowsAt, type Sample, SampleRuns } from '../support/sample.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 60_000;

interface Row {
  readonly metric: string;
  readonly tags: { readonly team: string; readonly agent: string; readonly intent: string };
  readonly count: number;
  readonly mean: number;
  readonly rev: number;
}

describe('The chat sample', function () {
  this.timeout(180_000);
  const runs = new SampleRuns();

  function prepare(servers: string): Promise<Sample> {
    const changes = [
      ['{ grace: 5s }', '{ grace: 2s, tick: 250ms, disorder: 250ms, repair_delay: 1s }'],
      ['windows: [10s, 1m, 1h]', 'windows: [1s, 10s]'],
    ] as const;
    return runs.prepare('chat', ['1883', '8084', '8080'], changes, servers);
  }

  async function messagesAreUnderstood(servers: string): Promise<void> {
    const { config, port } = await prepare(servers);
    const http = `http://127.0.0.1:${port('8080')}`;
    const rowsOf = (metric: string) => rowsAt<Row>(http, `stream=chat.understood&window=10s&metric=${metric}`);
    const total = (rows: readonly Row[]) => rows.reduce((sum, { count }) => sum + count, 0);

    const child = await runs.start(config, http);
    const desk = await RawClient.connected(port('1883'), { clientId: 'desk' });
    await desk.subscribe('millrace/alerts/#');
    const beganMs = systemClock.nowMs();
    const message = (conversation: string, agent: string, text: string, more: object = {}) =>
      JSON.stringify({
        timestamp: systemClock.nowMs(),
        conversation,
        agent,
        customer: `of-${conversation}`,
        text,
        ...more,
      });
    const angry = message('c1', 'anna', 'URGENT: the system is down and we are losing money, this is terrible!');
    desk.publish('support/shop/chat', angry, 1, 1);
    // Sent twice by a device that did not hear the acknowledgement: one message.
    desk.publish('support/shop/chat', angry, 1, 2);
    const response = await fetch(`http://127.0.0.1:${port('8084')}/ingest/support/shop/chat`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: [
        message('c2', 'anna', 'Where is my parcel?'),
        message('c3', 'ben', 'Thank you very much, great help!'),
        '{"conversation":"c4"}',
      ].join('\n'),
    });
    const { accepted, refused } = (await response.json()) as { accepted: number; refused: readonly object[] };
    assert.deepEqual([accepted, refused.length], [2, 1]);

    const alerts = () =>
      desk.of('publish').map(({ payload }) => JSON.parse(Buffer.from(payload as Uint8Array).toString()) as Alert);
    await until(() => alerts().length > 0, DEADLINE_MS, 'the subscriber was told');
    const [alert] = alerts();
    assert.deepEqual([alert!.rule, alert!.state, alert!.series], ['angry', 'raised', 'conversation=c1']);
    assert.deepEqual([alert!.tags.agent, alert!.tags.intent], ['anna', 'outage']);
    desk.end();

    // It dies with conversations open. What it knew of them is in the log.
    const understood = async () =>
      /^millrace_understood_total\{[^}]*\} (\d+)/m.exec(await (await fetch(`${http}/metrics`)).text())?.[1];
    await until(async () => Number(await understood()) >= 3, DEADLINE_MS, 'all messages are understood');
    const died = once(child, 'exit');
    child.kill('SIGKILL');
    assert.deepEqual((await died)[1], 'SIGKILL');
    await runs.start(config, http);
    const again = await RawClient.connected(port('1883'), { clientId: 'desk' });
    again.publish('support/shop/chat', message('c1', 'anna', 'I am on it.', { from: 'agent' }), 1, 1);
    again.publish('support/shop/chat', message('c1', 'anna', 'It is up again.', { from: 'agent' }), 1, 2);
    await again.until('puback', 2);
    again.end();
    await until(async () => total(await rowsOf('first_response')) === 1, DEADLINE_MS, 'the answer is counted');
    await until(async () => total(await rowsOf('sentiment')) === 3, DEADLINE_MS, 'all messages are counted');
    // One series, whichever conversations its messages are of: c1 and c2 would be in two partitions by themselves.
    const ofTeam = async () =>
      (await rowsAt<Row>(http, 'stream=chat&window=10s')).filter(({ metric }) => metric === '');
    await until(async () => total(await ofTeam()) === 5, DEADLINE_MS, 'each message is in the row of its team');

    const [answer] = await rowsOf('first_response');
    assert.deepEqual(answer!.tags, { agent: 'anna', intent: 'outage', team: 'shop' });
    assert.ok(answer!.mean > 0 && answer!.mean <= (systemClock.nowMs() - beganMs) / 1_000);
    const moods = new Map((await rowsOf('sentiment')).map(({ tags, mean }) => [`${tags.agent} ${tags.intent}`, mean]));
    assert.deepEqual([...moods.keys()].sort(), ['anna delivery', 'anna outage', 'ben thanks']);
    assert.ok(moods.get('anna outage')! < 0 && moods.get('ben thanks')! > 0);
    const active = (await (await fetch(`${http}/api/v1/alerts`)).json()) as { recent: readonly Alert[] };
    // Judged once, though the log was read twice.
    assert.equal(active.recent.filter(({ state }) => state === 'raised').length, 1);
    // On a busy machine a message may be late for its window of a second: then its row is repaired a moment later.
    let verified = await runMillrace(['verify', '--config', config]);
    const isRepaired = async () => {
      if (verified.code === 0) return true;
      verified = await runMillrace(['verify', '--config', config]);
      return false;
    };
    await until(isRepaired, DEADLINE_MS, 'every row is as the log says').catch(() =>
      assert.fail(verified.out + verified.err),
    );
  }

  it('understands messages, counts them by agent and intent, and tells of an angry one', async () => {
    await messagesAreUnderstood('');
  });

  it('does the same on Kafka and InfluxDB', async function () {
    await onServers(this, 'chat', { team: '.*' }, messagesAreUnderstood);
  });

  it('is started with simulated desks by one command', async () => {
    const { summary } = await runs.demo('chat');
    assert.ok(summary.understood! > 0 && summary.understood! <= summary.stored!, JSON.stringify(summary));
  });
});
