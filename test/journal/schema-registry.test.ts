/** The client of a schema registry against a stub of the published API: what is remembered, and what each refusal is called. */
import assert from 'node:assert/strict';
import type { SchemaRegistryConfig } from '../../src/config/kafka.ts';
import { type SchemaRegistry, schemaRegistry } from '../../src/journal/schema-registry.ts';
import { RegistryStub } from '../support/registry-stub.ts';

const OURS = { type: 'AVRO', text: '"string"' } as const;

describe('a schema registry', () => {
  let stub: RegistryStub;
  let registry: SchemaRegistry;

  beforeEach(async () => {
    stub = new RegistryStub();
    await stub.open();
    registry = client();
  });
  afterEach(() => stub.close());

  function client(changes: Partial<SchemaRegistryConfig> = {}): SchemaRegistry {
    const plain = { url: stub.url, format: 'avro', register: true, username: null, password: null } as const;
    return schemaRegistry({ ...plain, timeoutMs: 2_000, ...changes });
  }

  it('is asked once for the id of our schema, and registers it', async () => {
    const ids = await Promise.all([registry.idOf('a.readings-value', OURS), registry.idOf('a.readings-value', OURS)]);
    const again = await registry.idOf('a.readings-value', OURS);
    assert.deepEqual([...ids, again], Array(3).fill({ ok: true, value: 70_000 }));
    assert.deepEqual(stub.asked, ['POST /subjects/a.readings-value/versions']);
    const { schema, schemaType } = stub.registered[0]!;
    assert.deepEqual([schema, schemaType], [OURS.text, 'AVRO']);
  });

  it('is asked once for the schema of an id', async () => {
    const id = stub.add('s', '{"type":"object"}', 'JSON');
    const answers = await Promise.all([registry.schemaOf(id), registry.schemaOf(id)]);
    assert.deepEqual(answers[0], { ok: true, value: { type: 'JSON', text: '{"type":"object"}' } });
    assert.deepEqual(answers[1], answers[0]);
    assert.deepEqual(await registry.schemaOf(id), answers[0]);
    assert.equal(stub.asked.length, 1);
  });

  it('says that there is no schema with an id, and is not asked for it again', async () => {
    assert.deepEqual(await registry.schemaOf(7), { ok: true, value: null });
    assert.deepEqual(await registry.schemaOf(7), { ok: true, value: null });
    assert.equal(stub.asked.length, 1);
  });

  it('is not believed when a web server in its place knows nothing', async () => {
    stub.trouble = { status: 404, body: 'not found' };
    const outcome = await registry.schemaOf(7);
    assert.ok(!outcome.ok && outcome.failure.code === 'REGISTRY_REFUSED');
  });

  it('remembers no more schemas than its limit', async () => {
    for (let i = 0; i < 101; i++) stub.add('s', `"${i}"`);
    for (let i = 0; i < 101; i++) assert.ok((await registry.schemaOf(70_000 + i)).ok);
    const asked = stub.asked.length;
    await registry.schemaOf(70_000 + 100);
    assert.equal(stub.asked.length, asked, 'the newest is known');
    await registry.schemaOf(70_000);
    assert.equal(stub.asked.length, asked + 1, 'the oldest has made room');
  });

  it('is only looked up with `register: false`', async () => {
    const looking = client({ register: false });
    const missing = await looking.idOf('s', OURS);
    assert.ok(!missing.ok);
    assert.equal(missing.failure.code, 'REGISTRY_REFUSED');
    assert.match(
      missing.failure.message,
      /looking up s at .*it is not there; register it.*404, 40401: Subject not found/,
    );
    assert.equal(stub.registered.length, 0);
    const id = stub.add('s', OURS.text);
    assert.deepEqual(await looking.idOf('s', OURS), { ok: true, value: id });
  });

  it('takes a user name and password, and names them when they are wrong', async () => {
    stub.login = 'key:secret';
    const wrong = await client({ username: 'key', password: 'hunter2' }).idOf('s', OURS);
    assert.ok(!wrong.ok);
    assert.equal(wrong.failure.code, 'REGISTRY_REFUSED');
    assert.match(wrong.failure.message, /kafka\.schema_registry\.username and password \(401, 40101: Unauthorized\)/);
    assert.doesNotMatch(wrong.failure.message, /hunter2/);
    assert.ok((await client({ username: 'key', password: 'secret' }).idOf('s', OURS)).ok);
  });

  const troubles: readonly [name: string, status: number, body: unknown, code: string, person: boolean][] = [
    ['is busy', 429, '', 'REGISTRY_UNREACHABLE', false],
    [
      'is broken',
      500,
      { error_code: 50001, message: 'Error in the backend data store' },
      'REGISTRY_UNREACHABLE',
      false,
    ],
    ['starts', 503, 'starting', 'REGISTRY_UNREACHABLE', false],
    ['finds the schema incompatible', 409, { error_code: 409, message: 'incompatible' }, 'REGISTRY_REFUSED', true],
    ['finds the schema invalid', 422, { error_code: 42201, message: 'Invalid Avro schema' }, 'REGISTRY_REFUSED', true],
    ['forbids it', 403, {}, 'REGISTRY_REFUSED', true],
    ['is something else', 200, '<html>', 'REGISTRY_REFUSED', true],
    ['answers without an id', 200, {}, 'REGISTRY_REFUSED', true],
  ];
  for (const [name, status, body, code, person] of troubles) {
    it(`that ${name} is ${code}, and asked again`, async () => {
      stub.trouble = { status, body };
      const outcome = await registry.idOf('s', OURS);
      assert.ok(!outcome.ok);
      const { failure } = outcome;
      assert.deepEqual([failure.code, failure.retryable, failure.retryAfterMs !== undefined], [code, true, person]);
      stub.trouble = null;
      assert.ok((await registry.idOf('s', OURS)).ok);
    });
  }

  it('that is away is REGISTRY_UNREACHABLE with its address', async () => {
    await stub.close();
    const outcome = await registry.idOf('s', OURS);
    assert.ok(!outcome.ok);
    assert.equal(outcome.failure.code, 'REGISTRY_UNREACHABLE');
    assert.match(
      outcome.failure.message,
      /http:\/\/127\.0\.0\.1:\d+: the schema registry does not answer: .*ECONNREFUSED/,
    );
  });
});
