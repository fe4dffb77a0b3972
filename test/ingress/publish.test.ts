import assert from 'node:assert/strict';
import fc from 'fast-check';
import { generate } from 'mqtt-packet';
import { Publish, readPublish } from '../../src/ingress/publish.ts';
import { TopicTable } from '../../src/ingress/topic-table.ts';

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 });
const publish = fc.record({
  topic: text,
  payload: fc.uint8Array({ maxLength: 100 }),
  qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
  retain: fc.boolean(),
  messageId: fc.integer({ min: 1, max: 65_535 }),
});

/** Its first byte, and what is behind its fixed header of two bytes. */
function parts(fields: { topic: string; payload: Uint8Array; qos: 0 | 1 | 2; retain: boolean; messageId: number }) {
  const bytes = generate({ cmd: 'publish', dup: false, ...fields, payload: Buffer.from(fields.payload) });
  return { header: bytes[0]!, body: bytes.subarray(bytes[1]! < 0x80 ? 2 : 3) };
}

describe('reading a publish', () => {
  it('finds what was written, with a topic that came before and with another one', () => {
    fc.assert(
      fc.property(fc.array(publish, { maxLength: 5 }), (list) => {
        const topics = new TopicTable(100);
        for (const fields of [...list, ...list.slice(-1)]) {
          const { header, body } = parts(fields);
          const around = Buffer.concat([Buffer.from('ab'), body, Buffer.from('c')]);
          const read = readPublish(header, around, 2, 2 + body.length, topics, 7);
          assert.ok(read instanceof Publish);
          // the bytes were lent
          around.fill(0);
          const { topic, payload, qos, retain, messageId } = read;
          assert.deepEqual(
            { topic: topic.text, payload: new Uint8Array(payload), qos, retain, messageId },
            { ...fields, payload: new Uint8Array(fields.payload), messageId: fields.qos === 0 ? 0 : fields.messageId },
          );
        }
      }),
    );
  });

  it('answers with a sentence where the packet ends before its fields, wherever it is cut', () => {
    const { header, body } = parts({
      topic: 'a/b',
      payload: new Uint8Array(0),
      qos: 1,
      retain: false,
      messageId: 0x0102,
    });
    for (let end = 2; end < body.length; end++) {
      const read = readPublish(header, body, 0, end, new TopicTable(100), 0);
      assert.match(read as string, /shorter than its fields/);
    }
    assert.ok(readPublish(header, body, 0, body.length, new TopicTable(100), 0) instanceof Publish);
  });

  it('refuses packet identifier 0 with QoS 1 and 2', () => {
    for (const qos of [1, 2] as const) {
      const { header, body } = parts({ topic: 'a', payload: Buffer.from('x'), qos, retain: false, messageId: 7 });
      body.writeUInt16BE(0, 3);
      assert.match(readPublish(header, body, 0, body.length, new TopicTable(100), 0) as string, /MQTT-2\.3\.1-1/);
    }
  });

  it('shows bytes that are not UTF-8 as U+FFFD, which no topic may have', () => {
    const { header, body } = parts({ topic: 'ab', payload: Buffer.from('x'), qos: 0, retain: false, messageId: 0 });
    body[3] = 0xff;
    assert.deepEqual((readPublish(header, body, 0, body.length, new TopicTable(100), 0) as Publish).topic, {
      text: 'a\ufffd',
      problem: 'the topic is not UTF-8 [MQTT-1.5.3-1]',
    });
  });
});

describe('the table of topics', () => {
  it('answers with the text of the bytes, whatever came before, and again with the same one', () => {
    const name = fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
      fc.integer({ min: 0, max: 200_000 }).map((number) => `sensors/site/d${number}/environment`),
      fc.integer({ min: 120, max: 140 }).map((length) => 'x'.repeat(length)),
    );
    const table = new TopicTable(100);
    fc.assert(
      fc.property(fc.array(name, { maxLength: 200 }), (names) => {
        for (const text of names) {
          const bytes = Buffer.from(`<${text}>`);
          const read = table.read(bytes, 1, bytes.length - 1);
          assert.equal(read.text, bytes.toString('utf8', 1, bytes.length - 1));
          if (/^[ -~]{1,128}$/.test(text)) assert.equal(table.read(bytes, 1, bytes.length - 1), read);
        }
      }),
    );
  });
});
