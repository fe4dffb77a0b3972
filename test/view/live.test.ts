import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { ManualClock } from '../../src/clock.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { LiveHub } from '../../src/view/live.ts';
import { FakeFeed } from '../support/fake-feed.ts';

/** A response whose reader can be made to stand still. */
class FakeResponse extends EventEmitter {
  writableLength = 0;
  writableEnded = false;
  destroyed = false;
  reads = true;
  text = '';
  writeHead(): void {}
  write(text: string): boolean {
    this.text += text;
    if (!this.reads) this.writableLength += text.length;
    return this.writableLength === 0;
  }
  end(): void {
    this.writableEnded = true;
    this.emit('close');
  }
  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
  events(name: string): string[] {
    return [...this.text.matchAll(new RegExp(`^event: ${name}\\ndata: (.*)$`, 'gm'))].map(([, data]) => data!);
  }
}

function setup() {
  const clock = new ManualClock(1_700_000_000_000);
  const feed = new FakeFeed(clock, { devices: 3 });
  const hub = new LiveHub(feed, clock, silentTelemetry());
  const attach = (watch: Parameters<LiveHub['attach']>[1] = null) => {
    const response = new FakeResponse();
    hub.attach(response as unknown as ServerResponse, watch, '{"first":true}');
    return response;
  };
  const tick = async (bytes = 2_000) => {
    clock.advance(1_000);
    feed.step();
    hub.tick(() => JSON.stringify({ pad: 'x'.repeat(bytes) }));
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { clock, feed, hub, attach, tick };
}

const WATCH = {
  stream: 'environment',
  window: '10s',
  everyMs: 10_000,
  tags: { device: 'sensor-1' },
  metric: 'temperature',
};

describe('the live hub', () => {
  it('leaves a client that does not read out, tells it afterwards, and cuts it off when it never reads', async () => {
    const { attach, tick, hub } = setup();
    const [quick, slow] = [attach(), attach()];
    slow.reads = false;
    let most = 0;
    for (let i = 0; i < 20; i++) {
      await tick(20_000);
      most = Math.max(most, slow.writableLength);
    }
    assert.ok(most < 64 * 1024 + 25_000, `${most} bytes were buffered`);
    assert.equal(quick.events('status').length, 21);
    assert.ok(slow.events('status').length < 6);
    slow.reads = true;
    slow.writableLength = 0;
    await tick();
    assert.equal(slow.events('skipped').length, 1);
    assert.ok(JSON.parse(slow.events('skipped')[0]!).times >= 15);
    slow.reads = false;
    for (let i = 0; i < 40; i++) await tick(20_000);
    assert.equal(slow.destroyed, true);
    assert.equal(hub.clients, 1);
    assert.equal(quick.destroyed, false);
  });

  it('asks the store once for all that watch the same series, and not every second', async () => {
    const { attach, tick, feed } = setup();
    for (let i = 0; i < 5; i++) attach(WATCH);
    for (let i = 0; i < 20; i++) await tick();
    assert.ok(feed.rowsStarted <= 11, `${feed.rowsStarted} questions in 20 s`);
    assert.equal(feed.rowsStarted, feed.rowsEnded);
  });

  it('sends each closed row once, and again when it was repaired', async () => {
    const { attach, tick, feed } = setup();
    const rows = feed.rows.bind(feed);
    let repaired = false;
    feed.rows = async function* (query) {
      for await (const row of rows(query))
        yield repaired && row.startMs === 1_700_000_000_000 ? { ...row, rev: 7 } : row;
    };
    const client = attach(WATCH);
    for (let i = 0; i < 40; i++) await tick();
    const sent = () => client.events('rows').flatMap((data) => JSON.parse(data).rows);
    const starts = sent().map(({ startMs }: { startMs: number }) => startMs);
    assert.equal(new Set(starts).size, starts.length);
    assert.ok(starts.includes(1_700_000_000_000));
    repaired = true;
    for (let i = 0; i < 4; i++) await tick();
    assert.equal(sent().filter(({ rev }: { rev: number }) => rev === 7).length, 1);
  });

  it('goes on for the others when the store does not answer for one', async () => {
    const { attach, tick, feed } = setup();
    feed.rowsFailAfter = 0;
    const [watching, other] = [attach(WATCH), attach()];
    for (let i = 0; i < 5; i++) await tick();
    assert.equal(other.events('status').length, 6);
    assert.equal(watching.events('status').length, 6);
    assert.ok(watching.events('running').length >= 4);
    feed.rowsFailAfter = null;
    for (let i = 0; i < 5; i++) await tick();
    assert.ok(watching.events('rows').length >= 1);
  });

  it('forgets a watched series with its last client', async () => {
    const { attach, tick, feed, hub } = setup();
    const client = attach(WATCH);
    await tick();
    client.destroy();
    const before = feed.rowsStarted;
    for (let i = 0; i < 5; i++) await tick();
    assert.equal(feed.rowsStarted, before);
    assert.equal(hub.clients, 0);
  });

  it('bounds the rows of one event, and gets to all of them', async () => {
    const { feed, clock, hub } = setup();
    const many = new FakeFeed(clock, { devices: 300 });
    feed.rows = many.rows.bind(many);
    const response = new FakeResponse();
    hub.attach(
      response as unknown as ServerResponse,
      { stream: 'environment', window: '10s', everyMs: 10_000, metric: 'humidity' },
      '{}',
    );
    for (let i = 0; i < 30; i++) {
      clock.advance(1_000);
      hub.tick(() => '{}');
      await new Promise((resolve) => setImmediate(resolve));
    }
    const events = response.events('rows').map((data) => JSON.parse(data).rows);
    assert.ok(events.every((rows) => rows.length <= 200));
    const first = Math.min(...events.flat().map(({ startMs }) => startMs));
    const devices = new Set(
      events
        .flat()
        .filter(({ startMs }) => startMs === first)
        .map(({ tags }) => tags.device),
    );
    assert.equal(devices.size, 300);
  });
});
