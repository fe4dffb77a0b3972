/** What of a changed configuration can be taken in by a running program, and how the rest is named. */
import assert from 'node:assert/strict';
import { compareSettings } from '../../src/config/change.ts';
import { parseConfig } from '../../src/config.ts';

const STREAM = 'streams:\n  s: { topic: "t/{device}", time: ts, metrics: [x] }\n';

function settings(text: string) {
  const loaded = parseConfig(text, { file: 'm.yaml', env: { TOKEN: 'a' }, baseFolder: '/', hostName: 'h' });
  if (!loaded.ok) assert.fail(JSON.stringify(loaded.mistakes));
  return loaded.settings;
}
const change = (after: string, before = STREAM) => compareSettings(settings(before), settings(after));

describe('A changed configuration', () => {
  it('with nothing but more streams can be taken in', () => {
    const more = `${STREAM}  u: { topic: "u/{device}", metrics: [x], time: ts }\n  v: { topic: "v/{device}", time: ts, metrics: [] }\n`;
    assert.deepEqual(change(more), { addedStreams: ['u', 'v'], needRestart: [] });
  });

  it('that says the same in other words is no change', () => {
    const same =
      'rollup: { grace: 15000ms }\nstreams: { s: { metrics: ["x"], time: ts, topic: "t/{device}", retain: false } } # s\n';
    assert.deepEqual(change(same), { addedStreams: [], needRestart: [] });
  });

  it('has every other difference named by its key', () => {
    const after = `ack: spool\nmqtt: { listeners: [{ port: 1884, host: 127.0.0.1 }], limits: { packet: 1MiB } }\nkafka: { brokers: ["k:9092"] }
http: { token: b }\nstreams:\n  s: { topic: "t/{device}", time: ts, metrics: [x, y], windows: [1s] }\n  u: { topic: "u/{device}", time: ts, metrics: [x] }\n`;
    assert.deepEqual(change(after), {
      addedStreams: ['u'],
      needRestart: [
        'mqtt.listeners',
        'mqtt.limits.packet',
        'kafka',
        'http.token',
        'streams.s.metrics',
        'streams.s.windows',
      ],
    });
  });

  it('without one of the streams needs a restart', () => {
    const before = `${STREAM}  u: { topic: "u/{device}", metrics: [x], time: ts }\n`;
    assert.deepEqual(change(STREAM, before), { addedStreams: [], needRestart: ['streams.u'] });
  });
});
