import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CheckOptions, check } from '../../src/cli/check.ts';

/** 2023-11-14T22:13:25.000Z */
const NOW_MS = 1_700_000_005_000;

const CONFIG = `
kafka: { brokers: ["127.0.0.1:9092"], partitions: 12 }
streams:
  environment:
    topic: sensors/{site}/{device}/environment
    schema: environment.schema.json
    time: ts
    sequence: seq
    metrics: [temperature, humidity]
    enrich: { registry: devices.csv, by: device, tags: [room], scale: { temperature: factor } }
    windows: [10s, 1m, { size: 2m, every: 1m }]
  clicks:
    topic: web/{app}/clicks
    key: page
    identity: [user, page, ts]
    time: ts
    tags: [page]
    metrics: []
    windows: [1m]
  chat:
    topic: chat/{team}
    key: conversation
    time: ts
    metrics: []
    windows: [1m]
  plain:
    topic: plain/{device}
    metrics: [x]
    windows: [10s]
`;

const SCHEMA = JSON.stringify({
  type: 'object',
  required: ['ts', 'temperature'],
  properties: { temperature: { type: 'number', maximum: 125 } },
});

describe('millrace check', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-check-'));
    put('environment.schema.json', SCHEMA);
    put('devices.csv', 'device,room,factor\nd1,hall,2\nd2,,\n');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function put(name: string, text: string | Uint8Array): string {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  }

  /** What is printed, the folder's name left out, and the exit code. */
  async function run(text: string, options: Partial<CheckOptions> = {}): Promise<{ lines: string[]; code: number }> {
    const lines: string[] = [];
    const code = await check({
      config: put('m.yaml', text),
      colour: false,
      out: (line) => lines.push(line.replaceAll(`${folder}/`, '')),
      env: {},
      nowMs: NOW_MS,
      ...options,
    });
    return { lines, code };
  }

  const message = (topic: string, payload: string | Uint8Array, options: Partial<CheckOptions> = {}) =>
    run(CONFIG, { topic, payload: put('payload', payload), ...options });

  describe('of a configuration', () => {
    it('says that it is valid and what it does', async () => {
      const { lines, code } = await run('streams: { s: { topic: "t/{device}", time: ts, metrics: [x] } }\n');
      assert.equal(code, 0);
      assert.deepEqual(lines, [
        'm.yaml is valid: stream s; MQTT on 127.0.0.1:1883; the spool is the log; the embedded store.',
      ]);
    });

    it('prints every mistake with file, line and column, and how many there are', async () => {
      const { lines, code } = await run(
        'ack: kafka\nrollup:\n  grase: 15s\nstreams:\n  s:\n    topic: t/{device}\n    time: ts\n    metrics: [x]\n    schema: x.json\n    windows: [10s, 15s]\n',
      );
      assert.equal(code, 2);
      assert.deepEqual(lines, [
        'm.yaml:1:6: ack: kafka needs Kafka, and there is no kafka section; add kafka: { brokers: [host:9092] }',
        'm.yaml:3:3: rollup.grase: unknown key; did you mean "grace"?',
        'm.yaml:9:13: streams.s.schema: the file "x.json" does not exist; looked for x.json',
        'm.yaml:10:20: streams.s.windows[1]: 15s is not a multiple of 10s, the smallest window, from which it is merged',
        'm.yaml: 4 mistakes',
      ]);
    });

    it('prints warnings as such, and the configuration is valid with them', async () => {
      const { lines, code } = await run('streams: { s: { topic: "t/{device}", metrics: [x] } }\n');
      assert.equal(code, 0);
      assert.match(lines[0]!, /^m\.yaml:1:12: warning: streams\.s: has neither time nor identity/);
      assert.match(lines[1]!, /is valid/);
    });

    it('looks into schemas, registries, labelled messages and the users file, all of them', async () => {
      put('broken.json', '{ "type": "objct" }');
      put('two.csv', 'device\nd1\nd1\n');
      put('users.yaml', 'usrs: {}\n');
      put('few.tsv', 'delivery\twhere is it\ndelivery\tit is late\n');
      const { lines, code } = await run(
        'mqtt: { auth: { users: users.yaml } }\nstreams:\n  a: { topic: "a/{device}", time: ts, metrics: [x], schema: broken.json }\n  b: { topic: "b/{device}", time: ts, metrics: [x], enrich: { registry: two.csv } }\n  c: { topic: "c/{device}", time: ts, metrics: [], understand: { intents: few.tsv } }\n',
      );
      assert.equal(code, 2);
      assert.match(lines[0]!, /^m\.yaml:1:24: mqtt\.auth\.users: /);
      assert.match(lines[1]!, /^m\.yaml:3:\d+: streams\.a\.schema: The schema broken\.json cannot be used/);
      assert.match(lines[2]!, /^m\.yaml:4:\d+: streams\.b\.enrich\.registry: two\.csv, line 3: device "d1" is already/);
      assert.match(
        lines[3]!,
        /^m\.yaml:5:\d+: streams\.c\.understand\.intents: .*few\.tsv: needs at least two intents/,
      );
      assert.equal(lines[4], 'm.yaml: 4 mistakes');
    });

    it('gives programs one object', async () => {
      const { lines, code } = await run('dta: x\nstreams: { s: { topic: "t/{device}", metrics: [x], time: t } }\n', {
        json: true,
      });
      assert.equal(code, 2);
      assert.equal(lines.length, 1);
      const answer = JSON.parse(lines[0]!);
      assert.deepEqual(
        { ...answer, file: '' },
        {
          valid: false,
          file: '',
          mistakes: [
            {
              file: 'm.yaml',
              line: 1,
              column: 1,
              path: 'dta',
              message: 'unknown key',
              value: 'dta',
              expected: null,
              nearest: 'data',
              wayOut: null,
            },
          ],
          warnings: [],
        },
      );
    });

    it('gives programs the rules of the windows, with every default filled in', async () => {
      const text =
        'kafka: { brokers: ["k:9092"], prefix: plant }\nrollup: { grace: 5s }\nstreams: { s: { topic: "t/{device}", metrics: [x], time: t, windows: [10s, { size: 2m, every: 1m }], distinct: [u] } }\n';
      const { lines, code } = await run(text, { json: true });
      assert.equal(code, 0);
      const windows = [
        { label: '10s', sizeMs: 10_000, everyMs: 10_000 },
        { label: '2m_1m', sizeMs: 120_000, everyMs: 60_000 },
      ];
      assert.deepEqual(JSON.parse(lines[0]!).rules, {
        graceMs: 5_000,
        disorderMs: 2_000,
        skewMs: 60_000,
        kafka: { brokers: ['k:9092'], topic: 'plant.readings', registry: false },
        streams: { s: { metrics: ['x'], windows, distinct: ['u'] } },
      });
    });

    it('colours places and warnings on a terminal only', async () => {
      const text = 'dta: x\nstreams: { s: { topic: "t/{device}", metrics: [x], time: t } }\n';
      const plain = await run(text);
      const coloured = await run(text, { colour: true });
      assert.ok(!plain.lines.join('').includes('\x1b'));
      assert.ok(coloured.lines[0]!.includes('\x1b[1mm.yaml:1:1:\x1b[0m'));
    });

    it('ends with 2 when there is no such file', async () => {
      const lines: string[] = [];
      const code = await check({
        config: join(folder, 'none.yaml'),
        colour: false,
        out: (line) => lines.push(line),
        env: {},
      });
      assert.equal(code, 2);
      assert.match(lines[0]!, /none\.yaml: cannot be read/);
    });
  });

  describe('of a message', () => {
    it('shows stage by stage what becomes of it', async () => {
      const { lines, code } = await message(
        'sensors/a/d1/environment',
        '{"ts":1700000000000,"seq":7,"temperature":10.5}',
      );
      assert.equal(code, 0);
      assert.deepEqual(lines, [
        'message   sensors/a/d1/environment, 47 bytes, received 2023-11-14T22:13:25.000Z',
        'topic     stream environment, sensors/{site}/{device}/environment: site=a device=d1',
        'decode    json: ok',
        'schema    environment.schema.json: matches',
        'time      2023-11-14T22:13:20.000Z, from ts',
        'tags      device=d1 room=hall site=a',
        'metrics   temperature=21; not there: humidity',
        'key       d1: partition 1 of 12',
        'sequence  7',
        'window    10s     2023-11-14T22:13:20.000Z to 2023-11-14T22:13:30.000Z',
        'window    1m      2023-11-14T22:13:00.000Z to 2023-11-14T22:14:00.000Z',
        'window    2m_1m   2023-11-14T22:12:00.000Z to 2023-11-14T22:14:00.000Z',
        'window    2m_1m   2023-11-14T22:13:00.000Z to 2023-11-14T22:15:00.000Z',
        'ACCEPTED  1 reading',
      ]);
    });

    it('names the partition of its series where the key is none of the tags', async () => {
      const partitions = new Set<string>();
      for (let number = 0; number < 20; number++) {
        const { lines } = await message('chat/shop', `{"ts":1700000000000,"conversation":"c${number}"}`);
        partitions.add(lines.find((line) => line.startsWith('key '))!.replace(`c${number}:`, ''));
      }
      assert.equal(partitions.size, 1);
    });

    const refusals: Record<string, { topic: string; payload: string | Uint8Array; last: RegExp; passed: string[] }> = {
      'no stream has its topic': {
        topic: 'sensors/a/d1/humidity',
        payload: '{}',
        last: /^topic {5}no stream has a topic that matches/,
        passed: [],
      },
      'a topic level cannot be a tag': {
        topic: `plain/${'d'.repeat(300)}`,
        payload: '{"x":1}',
        last: /^topic {5}topic level \{device\}: .* has 300 bytes/,
        passed: [],
      },
      'the payload is not JSON': {
        topic: 'sensors/a/d1/environment',
        payload: '{"ts":',
        last: /^decode {4}/,
        passed: ['topic'],
      },
      'the payload is no text': {
        topic: 'sensors/a/d1/environment',
        payload: Uint8Array.of(0x7b, 0xff, 0x7d),
        last: /^decode {4}/,
        passed: ['topic'],
      },
      'it does not match the schema': {
        topic: 'sensors/a/d1/environment',
        payload: '{"ts":1700000000000,"temperature":900}',
        last: /^schema {4}\/temperature: 900 is above the maximum 125$/,
        passed: ['topic', 'decode'],
      },
      'its time lies in the future': {
        topic: 'sensors/a/d1/environment',
        payload: '{"ts":1800000000000,"temperature":9}',
        last: /^time {6}\/ts: .* ahead of the gateway's clock/,
        passed: ['topic', 'decode', 'schema'],
      },
      'a metric is no number': {
        topic: 'plain/d1',
        payload: '{"x":"hot"}',
        last: /^metrics {3}\/x: /,
        passed: ['topic', 'decode', 'schema', 'time'],
      },
      'a part of its identity is missing': {
        topic: 'web/shop/clicks',
        payload: '{"ts":1700000000000,"page":"/"}',
        last: /^identity {2}\/user is missing/,
        passed: ['topic', 'decode', 'schema', 'time'],
      },
    };
    for (const [what, { topic, payload, last, passed }] of Object.entries(refusals)) {
      it(`ends with 1 and names stage and reason when ${what}`, async () => {
        const { lines, code } = await message(topic, payload);
        assert.equal(code, 1);
        assert.match(lines.at(-2)!, last);
        assert.match(lines.at(-1)!, /^REFUSED {3}[a-z0-9-]+: kept whole as a dead letter/);
        assert.deepEqual(
          lines.slice(1, -2).map((line) => line.split(' ')[0]),
          passed,
        );
      });
    }

    it('says when it is too late for its first window', async () => {
      const { lines, code } = await message('sensors/a/d2/environment', '{"ts":1699999900000,"temperature":1}');
      assert.equal(code, 0);
      assert.match(
        lines.at(-2)!,
        /^late {6}its first window closed 15s after its end, before this was received: a repair/,
      );
      assert.ok(lines.includes('tags      device=d2 site=a'), 'an empty cell of the registry is no tag');
    });

    it('counts as late exactly from the end of its first window plus the grace', async () => {
      // The pane of 22:13:20 ends at :30; with 15 s of grace it accepts what was received before :45.
      const payload = '{"ts":1700000000000,"temperature":1}';
      const late = async (nowMs: number) =>
        (await message('sensors/a/d1/environment', payload, { nowMs })).lines.some((line) => line.startsWith('late'));
      assert.equal(await late(1_700_000_024_999), false);
      assert.equal(await late(1_700_000_025_000), true);
    });

    it('shows a batch reading by reading', async () => {
      const { lines } = await message(
        'sensors/a/d1/environment',
        '[{"ts":1700000000000,"temperature":1},{"ts":1700000001000,"temperature":2}]',
      );
      assert.ok(lines.includes('decode    json: 2 readings'));
      assert.ok(lines.includes('reading 2 of 2'));
      assert.equal(lines.at(-1), 'ACCEPTED  2 readings');
    });

    it('shows the identity and the event without metrics', async () => {
      const { lines, code } = await message('web/shop/clicks', '{"ts":1700000000000,"page":"/a","user":7}');
      assert.equal(code, 0);
      assert.ok(lines.includes('identity  [7,"/a",1700000000000]'));
      assert.ok(lines.includes('metrics   none: counted as an event'));
    });

    it('is read from standard input when the payload is -', async () => {
      async function* input() {
        yield '{"ts":1700000000000,';
        yield Buffer.from('"temperature":3}');
      }
      const { lines, code } = await run(CONFIG, { topic: 'sensors/a/d9/environment', payload: '-', input: input() });
      assert.equal(code, 0);
      assert.ok(lines.includes('tags      device=d9 site=a'));
    });

    it('gives programs the same as one object', async () => {
      const { lines, code } = await message('sensors/a/d1/environment', '{"ts":1700000000000,"temperature":10}', {
        json: true,
      });
      assert.equal(code, 0);
      const { message: traced } = JSON.parse(lines[0]!);
      assert.deepEqual(traced.readings[0].values, { temperature: 20 });
      assert.deepEqual(traced.readings[0].windows[0], {
        window: '10s',
        startMs: 1_700_000_000_000,
        endMs: 1_700_000_010_000,
      });
      const refused = await message('sensors/a/d1/environment', '7', { json: true });
      assert.equal(refused.code, 1);
      assert.equal(JSON.parse(refused.lines[0]!).message.refusal.stage, 'decode');
    });

    it('is not asked about while the configuration has mistakes', async () => {
      const { lines, code } = await run('streams: {}\n', { topic: 'a', payload: put('payload', '{}') });
      assert.equal(code, 2);
      assert.equal(lines.length, 2);
    });

    it('ends with 2 when topic or payload is missing, or the payload cannot be read', async () => {
      for (const options of [{ topic: 'a' }, { payload: 'b' }, { topic: 'a', payload: join(folder, 'nothing') }]) {
        const { lines, code } = await run(CONFIG, options);
        assert.equal(code, 2);
        assert.match(lines.at(-1)!, /^millrace: /);
      }
    });

    it('prints no control characters of a topic', async () => {
      const { lines } = await message('plain/\x1b[31m', '{"x":1}');
      assert.ok(!lines.join('').includes('\x1b'));
    });
  });

  describe('of another schema', () => {
    const embedded = () => CONFIG.replace(/^kafka:.*$/m, `data: ${join(folder, 'data')}`);
    const rehearse = (schema: string, options: Partial<CheckOptions> = {}) =>
      run(embedded(), { schema: put('new.json', schema), ...options });

    it('has nothing to say where nothing was received', async () => {
      mkdirSync(join(folder, 'data', 'spool'), { recursive: true });
      const { lines, code } = await rehearse(SCHEMA);
      assert.equal(code, 0, lines.join('\n'));
      assert.match(
        lines[0]!,
        /^Stream environment, schema .*new\.json as version ([0-9a-f]{12}) \(now \1\), .* the last 24h:$/,
      );
      assert.equal(lines[1], '0 readings were accepted, 0 of them would be refused, in 0 messages.');
    });

    it('ends with 2 and says why when the schema or the command line is wrong', async () => {
      const wrong: [string, Partial<CheckOptions>, RegExp][] = [
        ['{ "type": "objct" }', {}, /The schema .*new\.json cannot be used/],
        [SCHEMA, { last: 'yesterday' }, /--last yesterday is not a duration such as 24h/],
        [SCHEMA, { stream: 'no' }, /there is no stream no; the configuration has environment, clicks, chat, plain/],
        [SCHEMA, { topic: 'a', payload: 'b' }, /not both/],
      ];
      for (const [schema, options, expected] of wrong) {
        const { lines, code } = await rehearse(schema, options);
        assert.equal(code, 2);
        assert.match(lines.at(-1)!, expected);
      }
      const { lines, code } = await run(embedded(), { last: '24h' });
      assert.deepEqual([lines, code], [['millrace: --last goes with --schema'], 2]);
    });
  });
});
