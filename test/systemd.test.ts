/** The systemd unit: accepted by systemd's own check, which refuses a misspelt key, and hardened as systemd measures it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { STOP_LIMIT_MS } from '../src/parts/threads.ts';

const unit = readFileSync(fileURLToPath(new URL('../compose/systemd/millrace.service', import.meta.url)), 'utf8');

const KNOWN: Readonly<Record<string, readonly string[]>> = {
  Unit: ['Description', 'Documentation', 'Wants', 'After', 'StartLimitIntervalSec', 'StartLimitBurst'],
  Install: ['WantedBy'],
};

/** Section -> key -> values. */
function parse(text: string): Record<string, Record<string, string[]>> {
  const sections: Record<string, Record<string, string[]>> = {};
  let section: Record<string, string[]> = {};
  for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('#'))) {
    const head = /^\[(\w+)\]$/.exec(line)?.[1];
    if (head) {
      section = {};
      sections[head] = section;
      continue;
    }
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? assert.fail(`not a line of a unit: ${line}`);
    section[key!] = [...(section[key!] ?? []), value!];
  }
  return sections;
}

describe('The systemd unit', function () {
  this.timeout(30_000);
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-unit-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** What `systemd-analyze` says of it, on a machine that need not have the program installed. */
  function analyze(text: string, ...command: string[]): string | null {
    const file = join(folder, 'millrace.service');
    writeFileSync(file, text.replaceAll('/usr/bin/node', process.execPath));
    const run = spawnSync('systemd-analyze', [...command, file], { encoding: 'utf8' });
    if (run.error) return null;
    return run.stdout + run.stderr;
  }

  it('is accepted by systemd-analyze verify, which says so of a misspelt key', function () {
    const said = analyze(unit, 'verify', '--man=no');
    if (said === null) this.skip();
    assert.equal(
      said
        .split('\n')
        .filter((line) => line.includes('millrace.service'))
        .join('\n'),
      '',
    );
    const misspelt = analyze(unit.replace('ProtectHome=', 'ProtectHouse='), 'verify', '--man=no');
    assert.match(misspelt ?? '', /ProtectHouse/);
  });

  it('has what a stop in order, a reload and the spool need', () => {
    const { Unit, Service, Install } = parse(unit);
    for (const [name, section] of Object.entries({ Unit, Install })) {
      for (const key of Object.keys(section!)) assert.ok(KNOWN[name]!.includes(key), key);
    }
    const one = (key: string) => Service![key]?.at(-1);
    assert.match(one('ExecStart') ?? '', /main\.js run --config \/etc\/millrace\/millrace\.yaml$/);
    assert.match(one('ExecReload') ?? '', /-HUP/);
    assert.equal(one('KillSignal'), 'SIGTERM');
    assert.ok(Number.parseInt(one('TimeoutStopSec') ?? '', 10) * 1_000 >= 3 * STOP_LIMIT_MS);
    assert.equal(one('RestartPreventExitStatus'), '2', 'a wrong configuration is not started again and again');
    assert.equal(one('StateDirectory'), 'millrace');
    for (const key of ['NoNewPrivileges', 'PrivateTmp', 'DynamicUser', 'ProtectKernelModules']) {
      assert.equal(one(key), 'yes', key);
    }
    assert.equal(one('ProtectSystem'), 'strict');
    // V8 makes code at run time.
    assert.equal(one('MemoryDenyWriteExecute'), undefined);
  });
});
