/** The built program as a person meets it: help, typing mistakes, exit codes, colours, completion. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readProfile } from '../../src/cli/simulate.ts';
import { simulatorMistake } from '../../src/cli/simulator.ts';
import { progress } from '../../src/cli/terminal.ts';
import { runMillrace } from '../support/gateway-process.ts';
import { leaveOut } from '../support/servers.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const GROUPS = ['deadletters', 'commands'];

describe('The command line', function () {
  this.timeout(60_000);
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-cli-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  async function commandsIn(...group: string[]): Promise<string[]> {
    const { out } = await runMillrace([...group, '--help']);
    const listed = out.slice(out.indexOf('Commands:')).matchAll(/^ {2}([a-z]+)\b/gm);
    return [...listed].map(([, name]) => name!).filter((name) => name !== 'help');
  }

  it('has help with an example for every command', async () => {
    const names = (await commandsIn()).map((name) => [name]);
    for (const group of GROUPS) for (const name of await commandsIn(group)) names.push([group, name]);
    assert.ok(names.length >= 13, `${names}`);
    for (const name of names.filter(([first, second]) => second || !GROUPS.includes(first!))) {
      const { code, out } = await runMillrace([...name, '--help']);
      assert.equal(code, 0);
      assert.match(out, /Example:\n {2}\$ \S/, `${name.join(' ')} has an example`);
    }
  });

  it('suggests what was meant when a command, an option or a choice is mistyped, and exits with 2', async () => {
    for (const [args, meant] of [
      [['chekc'], /Did you mean check\?/],
      [['deadletters', 'lst'], /Did you mean list\?/],
      [['verify', '--form', '2026-01-01'], /Did you mean --from\?/],
      [['run', '--role', 'gatway'], /Allowed choices are all, gateway, rollup/],
      [['completion', 'tcsh'], /Allowed choices are bash, zsh, fish/],
      [[], /Usage: millrace/],
    ] as const) {
      const { code, out, err } = await runMillrace(args);
      assert.match(err, meant);
      assert.equal(out, '', 'errors go to stderr');
      assert.equal(code, 2, args.join(' '));
    }
  });

  it('exits with 0 for what is true, 1 for what is false, 2 for a wrong command line or configuration', async () => {
    const config = join(folder, 'millrace.yaml');
    writeFileSync(config, 'streams: { s: { topic: "s/{device}", time: ts, metrics: [v], windows: [10s] } }\n');
    const codeOf = async (args: readonly string[], input = '') =>
      (await runMillrace(args, { input, cwd: folder })).code;
    assert.equal(await codeOf(['check']), 0);
    assert.equal(await codeOf(['check', '--topic', 's/d', '--payload', '-'], '{"ts":1700000000000,"v":1}'), 0);
    assert.equal(await codeOf(['check', '--topic', 's/d', '--payload', '-'], '{"v":1}'), 1);
    assert.equal(await codeOf(['check', '--config', 'absent.yaml']), 2);
    assert.equal(await codeOf(['verify', '--from', 'yesterday']), 2);
    for (const command of ['verify', 'audit']) assert.equal(await codeOf([command]), 2, 'there is no data folder');
    mkdirSync(join(folder, 'data'));
    assert.equal(await codeOf(['verify']), 0);
    assert.equal(await codeOf(['deadletters', 'list', '--json']), 0);
    assert.equal(await codeOf(['deadletters', 'show', '0-1']), 1);
    assert.equal(await codeOf(['deadletters', 'show', 'x']), 2);
    assert.equal(await codeOf(['run', '--role', 'rollup']), 2);
    assert.equal(await codeOf(['simulate', '--for', 'ever']), 2);
    assert.equal(await codeOf(['demo', '--data', join(folder, 'demo'), '--devices', '-3']), 2);
    assert.equal(await codeOf(['--version']), 0);
  });

  it('uses no colour and draws no progress where the output is piped, or NO_COLOR is set', async function () {
    const config = join(folder, 'millrace.yaml');
    writeFileSync(config, 'streams: { s: { topic: "s/{device}", metrics: [v], windws: [10s] } }\n');
    for (const args of [['check'], ['verify'], ['--help']]) {
      const { out, err } = await runMillrace(args, { cwd: folder });
      assert.ok(!`${out}${err}`.includes('\x1b['), args.join(' '));
    }
    // A terminal, made by util-linux.
    const onTerminal = (env: Record<string, string>) =>
      spawnSync('script', ['-qec', `${process.execPath} ${MAIN} check`, '/dev/null'], {
        cwd: folder,
        encoding: 'utf8',
        env: { PATH: process.env.PATH, TERM: 'xterm', ...env },
      });
    if (onTerminal({}).error) leaveOut(this, 'script');
    assert.ok(onTerminal({}).stdout.includes('\x1b['), 'coloured on a terminal');
    assert.ok(!onTerminal({ NO_COLOR: '1' }).stdout.includes('\x1b['));
  });

  it('draws progress with rate and time left on a terminal, and nothing elsewhere', () => {
    let nowMs = 0;
    let drawn = '';
    const draw = progress(
      { interactive: true },
      () => nowMs,
      (text) => (drawn += text),
    );
    nowMs = 2_000;
    draw(500, 2_000, 'records');
    assert.equal(drawn, `\r[${'#'.repeat(8)}${'.'.repeat(22)}] 25 %  250 records/s  6 s left\x1b[K`);
    nowMs = 2_001;
    draw(501, 2_000, 'records');
    assert.equal(drawn.split('\r').length, 2, 'not drawn at every record');
    draw(2_000, 2_000, 'records');
    assert.ok(drawn.endsWith('\n'), 'the line is left behind at the end');
    drawn = '';
    progress(
      { interactive: false },
      () => nowMs,
      (text) => (drawn += text),
    )(1, 2, 'records');
    assert.equal(drawn, '');
  });

  it('tells a number of devices, a rate and a duration from what is none', () => {
    const rightOnes = [{}, { devices: '20', rate: '1/s', for: '60s' }, { rate: '0.5' }, { rate: '30/m' }];
    for (const options of rightOnes) assert.equal(simulatorMistake(options), null);
    const wrongOnes = [
      { devices: '-3' },
      { devices: '0' },
      { devices: 'x' },
      { rate: 'fast' },
      { rate: '0/s' },
      { for: '60' },
    ];
    for (const options of wrongOnes) assert.match(simulatorMistake(options)!, /^--(devices|rate|for) \S+ is not /);
  });

  it('names a mistake in a simulator profile, and what was meant', () => {
    const file = join(folder, 'simulator.yaml');
    const read = (text: string) => {
      writeFileSync(file, text);
      return readProfile(file);
    };
    assert.deepEqual(read('devices: 3\nrate: 2/s\nlate-by: 4s\n'), [
      '--devices',
      '3',
      '--rate',
      '2/s',
      '--late-by',
      '4s',
    ]);
    assert.match(read('devcies: 3') as string, /did you mean devices\?/);
    assert.match(read('devices: [1]') as string, /devices needs a text or a number/);
    assert.match(read('- 1') as string, /is not a profile/);
    assert.match(read('{') as string, /cannot be read/);
    assert.match(readProfile(join(folder, 'absent')) as string, /ENOENT/);
  });

  describe('completion', () => {
    async function script(shell: string): Promise<string> {
      const { code, out } = await runMillrace(['completion', shell]);
      assert.equal(code, 0);
      const file = join(folder, `completion.${shell}`);
      writeFileSync(file, out);
      return file;
    }

    /** [what is typed, the word at the cursor], what must be offered, what must not. */
    const CASES: readonly (readonly [string[], readonly string[], readonly string[]])[] = [
      [['ru'], ['run'], ['check']],
      [['run', '--r'], ['--role'], ['--config']],
      [['run', '--role', 'g'], ['gateway'], ['rollup']],
      [['deadletters', ''], ['list', 'show', 'requeue'], ['run']],
      [['deadletters', 'requeue', '--sch'], ['--schema'], ['--role']],
      [['completion', ''], ['bash', 'zsh', 'fish'], ['run']],
    ];

    function holds(offered: readonly string[], [typed, all, none]: (typeof CASES)[number]): void {
      for (const word of all) assert.ok(offered.includes(word), `${typed.join(' ')}: ${word} in ${offered}`);
      for (const word of none) assert.ok(!offered.includes(word), `${typed.join(' ')}: ${word} in ${offered}`);
    }

    it('completes in bash', async () => {
      const file = await script('bash');
      for (const each of CASES) {
        const [typed] = each;
        const words = ['millrace', ...typed].map((word) => `'${word}'`).join(' ');
        const ask = `source ${file}; COMP_WORDS=(${words}); COMP_CWORD=${typed.length}; _millrace; printf '%s\\n' "\${COMPREPLY[@]}"`;
        const run = spawnSync('bash', ['-c', ask], { encoding: 'utf8' });
        assert.equal(run.stderr, '');
        holds(run.stdout.trim().split('\n'), each);
      }
    });

    it('completes in fish', async function () {
      if (spawnSync('fish', ['--version']).error) leaveOut(this, 'fish');
      const file = await script('fish');
      for (const each of CASES) {
        const ask = `source ${file}; complete -C "millrace ${each[0].join(' ')}"`;
        const run = spawnSync('fish', ['-c', ask], { encoding: 'utf8', env: { ...process.env, HOME: folder } });
        assert.equal(run.stderr, '');
        const offered = run.stdout
          .trim()
          .split('\n')
          .map((line) => line.split('\t')[0]!);
        holds(offered, each);
      }
    });

    it('completes in zsh', async function () {
      if (spawnSync('zsh', ['--version']).error) leaveOut(this, 'zsh');
      const file = await script('zsh');
      // The completion system filters by what is typed; here all that is offered is printed.
      const print = 'print -l -- "$@"';
      const describe = '[[ $1 == -o ]] && shift; print -l -- ' + '$' + '{(P)2}';
      const stubs = `compdef() {}; compadd() { shift; ${print} }; _describe() { ${describe} }; _files() {}`;
      for (const each of CASES) {
        const [typed, all] = each;
        const words = ['millrace', ...typed].map((word) => `'${word}'`).join(' ');
        const ask = `${stubs}; source ${file}; words=(${words}); CURRENT=${typed.length + 1}; _millrace`;
        const run = spawnSync('zsh', ['-fc', ask], { encoding: 'utf8' });
        assert.equal(run.stderr, '');
        const offered = run.stdout
          .trim()
          .split('\n')
          .map((line) => line.split(':')[0]!);
        holds(offered, [typed, all, []]);
      }
    });

    it('knows every command that there is', async () => {
      const text = readFileSync(await script('bash'), 'utf8');
      for (const name of await commandsIn()) assert.ok(text.includes(`"/${name}")`), name);
    });
  });
});
