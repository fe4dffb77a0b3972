import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import mqttPacket from 'mqtt-packet';
import { LatencyHistogram } from '../../devices-sim/histogram.ts';
import { IdSet } from '../../devices-sim/id-set.ts';
import { openLedger, payloadFields } from '../../devices-sim/ledger.ts';
import { PublishBuffer } from '../../devices-sim/publish-buffer.ts';

describe('The set of acknowledged ids', () => {
  it('holds what was added and nothing else, and writes it as ranges', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 5_000 })), (ids) => {
        const set = new IdSet();
        for (const id of ids) set.add(id);
        const expected = new Set(ids);
        assert.equal(set.size, expected.size);
        const read = new Set<number>();
        for (const part of set.ranges().split(',').filter(Boolean)) {
          const [from, to = from] = part.split('-').map(Number);
          for (let id = from!; id <= to!; id++) read.add(id);
        }
        assert.deepEqual(read, expected);
        assert.ok([...expected].every((id) => set.has(id)));
      }),
    );
  });

  it('is short for what comes in order', () => {
    const set = new IdSet();
    for (let id = 0; id < 100_000; id++) if (id !== 70_000) set.add(id);
    assert.equal(set.ranges(), '0-69999,70001-99999');
  });
});

describe('The latency histogram', () => {
  it('knows every quantile to 1.6 %', () => {
    const latencies = fc.array(fc.double({ min: 0, max: 60_000, noNaN: true }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(latencies, fc.constantFrom(0.01, 0.5, 0.99, 0.999, 1), (values, quantile) => {
        const histogram = new LatencyHistogram();
        for (const value of values) histogram.add(value);
        const sorted = values.toSorted((a, b) => a - b);
        const exact = sorted[Math.max(1, Math.ceil(quantile * sorted.length)) - 1]!;
        const estimate = histogram.quantileMs(quantile);
        assert.ok(Math.abs(estimate - exact) <= exact * 0.016 + 0.001, `${estimate} for ${exact}`);
        assert.equal(histogram.count, values.length);
        assert.ok(estimate <= histogram.maxMs);
      }),
    );
  });

  it('answers 0 when it is empty', () => assert.equal(new LatencyHistogram().quantileMs(0.5), 0));
});

describe('The ledger', () => {
  it('writes one line an event, in order, all of them once it is closed', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sim-ledger-'));
    try {
      const file = join(folder, 'ledger.ndjson');
      const ledger = openLedger(file);
      const subject = { device: 'd1', topic: 't', copy: 0, ts: 1, fault: 'none' as const, attempt: 1 };
      for (let seq = 0; seq < 2_000; seq++) ledger.note('sent', { ...subject, seq }, { bytes: 3 });
      ledger.close();
      const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
      const entries = lines.map((line) => JSON.parse(line));
      assert.deepEqual(
        entries.map((entry) => entry.seq),
        entries.map((_, i) => i),
      );
      assert.equal(entries.length, 2_000);
      const { at, ...first } = entries[0];
      assert.deepEqual(first, { event: 'sent', ...subject, seq: 0, bytes: 3 });
      assert.equal(typeof at, 'number');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('shows a payload once, if it is text and short; always its size and hash', () => {
    const sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
    assert.deepEqual(payloadFields(Buffer.from('abc'), true), { bytes: 3, sha256, payload: 'abc' });
    assert.deepEqual(payloadFields(Buffer.from('abc'), false), { bytes: 3, sha256 });
    assert.equal('payload' in payloadFields(Buffer.of(0xff), true), false);
    assert.equal('payload' in payloadFields(Buffer.alloc(5_000, 'x'), true), false);
  });
});

describe('The buffer of PUBLISH packets', () => {
  it('holds the bytes that mqtt-packet would make', () => {
    const topic = fc.string({ unit: 'binary', minLength: 1 }).filter((text) => !/[+#\0]/.test(text));
    const payload = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.nat(20_000).map((length) => 'x'.repeat(length)),
    );
    const message = fc.tuple(topic, fc.integer({ min: 1, max: 65_535 }), payload);
    const buffer = new PublishBuffer();
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
        for (const [text, id, content] of messages) buffer.add(Buffer.from(text), id, content);
        const packets = messages.map(([text, messageId, content]) =>
          mqttPacket.generate({
            cmd: 'publish',
            topic: text,
            messageId,
            payload: content,
            qos: 1,
            dup: false,
            retain: false,
          }),
        );
        assert.deepEqual(buffer.take(), Buffer.concat(packets));
      }),
    );
  });
});
