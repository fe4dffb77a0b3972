import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, loadConfig } from '../../src/config.ts';
import { auditRequests } from '../../src/parts/audit-request.ts';

const WISH = { fromMs: 1_700_000_000_000, toMs: 1_700_000_060_000 };

describe('an audit that is asked for', function () {
  this.timeout(30_000);
  let folder: string;
  let config: Config;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-audit-'));
    const file = join(folder, 'millrace.yaml');
    writeFileSync(file, 'data: data\nstreams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [1m] } }\n');
    const loaded = await loadConfig(file, {});
    assert.ok(loaded.ok, JSON.stringify(loaded));
    config = loaded.config;
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is ended when it takes longer than it may', async () => {
    // no thread begins within a millisecond
    const answer = await auditRequests(1).ask(config, WISH);
    assert.ok(!answer.ok);
    assert.equal(answer.failure.code, 'AUDIT_ENDED');
    assert.match(answer.failure.message, /took longer than 0.001 s; ask for a shorter range/);
  });

  it('is ended by a stop', async () => {
    const requests = auditRequests();
    const asked = requests.ask(config, WISH);
    await requests.stop();
    const answer = await asked;
    assert.ok(!answer.ok);
    assert.equal(answer.failure.code, 'AUDIT_ENDED');
    assert.match(answer.failure.message, /ended before it had an answer/);
  });
});
