/**
 * Every command of the README, as written, in a copy of the checkout that has nothing installed: what a newcomer does.
 * A command that is not in one of the lists below fails the test, so that none is forgotten.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withTables } from './bench/tables.ts';
import { codeBlocks, copyCheckout, CHECKOUT as root } from './support/checkout-copy.ts';
import { needTime } from './support/servers.ts';
import { until } from './support/until.ts';

const readme = readFileSync(join(root, 'README.md'), 'utf8');

const RUN_HERE = [
  'npm ci',
  'npm run demo',
  'npm run demo -- --for 60s --json',
  'npm run --silent millrace -- init plant',
  'npm run --silent millrace -- run --config plant/millrace.yaml',
  'npm run --silent millrace -- simulate --config plant/millrace.yaml --profile plant/simulator.yaml',
  'npm run --silent millrace -- check --config millrace.yaml',
  'npm run --silent millrace -- run --config millrace.yaml',
  `echo '{"ts": 1700000000000, "temperature": 21.5, "humidity": 40}' > reading.json`,
  'npm run --silent millrace -- check --config millrace.yaml --topic sensors/berlin/d1/environment --payload reading.json',
  `curl -s 'http://127.0.0.1:8080/api/v1/rows?stream=environment&window=10s&from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z&metric=temperature'`,
  'npm run --silent millrace -- demo --sample sensors',
  'npm run --silent millrace -- demo --sample clickstream',
  'node compose/samples/clickstream/shop.mjs',
  `curl -s -d '[{"timestamp": 1700000000000, "userid": "u1", "page": "/", "action": "view"}, {"page": "/"}]' http://127.0.0.1:8084/ingest/web/shop/clicks`,
  `npm run --silent millrace -- commands send --config millrace.yaml --device d1 --payload '{"fan":"on"}' --ttl 10m`,
  'npm run --silent millrace -- commands list --config millrace.yaml --device d1',
  'npm run --silent millrace -- demo --sample chat',
  'npm run --silent millrace -- intents --train compose/samples/chat/intents.tsv',
  `curl -s -d '{"timestamp": 1700000000000, "conversation": "c1", "agent": "anna", "customer": "u1", "text": "URGENT: the system is down!"}' http://127.0.0.1:8084/ingest/support/shop/chat`,
];
/** `.ci/run` brings the servers up, asks for their addresses, runs the tests with both required, and ends them. */
const RUN_BY_CI = [
  'npm run stack',
  'npm run stack -- env',
  'npm run stack -- down',
  'npm test',
  'eval "$(npm run --silent stack -- env)"',
  'MILLRACE_TEST_REQUIRE=kafka,influx npm test',
  'eval "$(npm run --silent spark)"',
  'npm run schema-suite',
];
/** Benches run in the checkout itself; this one is short. */
const RUN_IN_CHECKOUT = ['npm run bench -- anomaly'];
/** Run by a test of its own (test/torture), or they need a copy of Numenta's files, or minutes, or root's limit of open files. */
const RUN_BY_HAND = [
  'npm run --silent millrace -- torture --minutes 1',
  'npm run --silent millrace -- torture --soak',
  'npm run bench -- anomaly --nab ~/NAB',
  'npm run bench -- connections',
  'npm run bench -- ingress --peers',
  'npm run bench -- peers',
  'npm run bench -- kafka-settings',
  'npm run bench -- pages',
  'npm run bench -- rollup --peers --kill',
  'npm run bench -- scale',
];
/** No Docker engine: the README says that these were not run. */
const NOT_RUN = [
  'cd compose',
  'cp .env.example .env',
  'docker compose up --build -d',
  'docker compose --profile demo up -d simulator',
];

const blocks = (language: string) => codeBlocks(readme, language);

const commands = blocks('sh')
  .flatMap((block) => block.split('\n'))
  .map((line) =>
    line
      .replace(/\s+# .*$/, '')
      .replace(/\s{2,}.*$/, '')
      .trim(),
  )
  .filter((line) => line !== '');

describe('The README', function () {
  this.timeout(600_000);
  let folder: string;

  before(() => {
    folder = copyCheckout();
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  function start(command: string): { child: ChildProcess; output: () => string; ended: Promise<number | null> } {
    // A group of its own, so that Ctrl-C can be sent as a terminal does: to all of it.
    const child = spawn('bash', ['-c', command], { cwd: folder, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    return { child, output: () => output, ended };
  }

  async function run(command: string): Promise<string> {
    assert.ok(RUN_HERE.includes(command), command);
    const { output, ended } = start(command);
    const code = await ended;
    assert.equal(code, 0, `${command}\n${output()}`);
    return output();
  }

  const interrupt = (child: ChildProcess) => process.kill(-child.pid!, 'SIGINT');

  it('has no command that this test does not know, and knows none that is gone', () => {
    assert.deepEqual(
      [...new Set(commands)].sort(),
      [...new Set([...RUN_HERE, ...RUN_IN_CHECKOUT, ...RUN_BY_HAND, ...RUN_BY_CI, ...NOT_RUN])].sort(),
    );
  });

  for (const command of RUN_IN_CHECKOUT) {
    it(`has a command that works in the checkout: ${command}`, function () {
      needTime(this);
      const printed = execFileSync('bash', ['-c', command], { cwd: root, encoding: 'utf8' });
      const { figures } = JSON.parse(readFileSync(join(root, 'bench-results/anomaly.json'), 'utf8'));
      assert.ok(figures.planted > 0 && figures.recall > 0 && figures.recall <= 1, printed);
    });
  }

  it('names commands in .ci/run that it runs', () => {
    const ci = readFileSync(join(root, '.ci/run'), 'utf8');
    for (const part of [
      'stack -- up',
      'stack -- env',
      'stack -- down',
      'npm test',
      'MILLRACE_TEST_REQUIRE=kafka,influx',
      'npm run --silent spark',
      'npm run --silent schema-suite',
    ]) {
      assert.ok(ci.includes(part), part);
    }
  });

  it('installs from the lock file with `npm ci`', async function () {
    needTime(this);
    await run('npm ci');
  });

  it('shows closed 10 s windows within 30 s of `npm run demo`, ends with 0 on Ctrl-C, and goes on when started again', async function () {
    needTime(this);
    const rows = RUN_HERE.find((command) => command.startsWith('curl'))!;
    const demo = start('npm run demo');
    await until(() => demo.output().includes('Live page'), 60_000, 'the address of the page is printed');
    const startedMs = performance.now();
    await until(() => execFileSync('bash', ['-c', rows]).length > 0, 120_000, 'a closed 10 s window');
    const seconds = Math.round((performance.now() - startedMs) / 1_000);
    console.log(`      first closed windows after ${seconds} s`);
    const page = await fetch('http://127.0.0.1:8080/');
    assert.match(await page.text(), /Millrace/);
    const running = await (await fetch('http://127.0.0.1:8080/api/v1/running?stream=environment&window=10s')).text();
    assert.match(running, /"count":/);
    interrupt(demo.child);
    // The program ends with 0; npm, which got the signal too, may report that instead.
    assert.ok([0, 130, null].includes(await demo.ended), demo.output());
    assert.match(demo.output(), /The books balance/);
    const segments = () => readdirSync(join(folder, 'demo-data/spool')).filter((name) => name.endsWith('.seg'));
    const before = segments();

    const summary = await run('npm run demo -- --for 60s --json');
    const answer = JSON.parse(summary.trim().split('\n').at(-1)!);
    assert.equal(answer.balanced, true, summary);
    assert.equal(answer.published, answer.acknowledged);
    assert.ok(answer.stored > 500 && answer.windows > 20 && answer.verified > 100, summary);
    assert.equal(answer.differences, 0);
    // Each start begins a segment of its own; what was there stays.
    assert.ok(before.length > 0 && before.every((name) => segments().includes(name)), 'the same log goes on');
  });

  it('ends the demo itself, without npm around it, with 0 on Ctrl-C', async function () {
    needTime(this);
    const demo = start('exec node dist/src/main.js demo');
    await until(() => demo.output().includes('Ctrl-C stops'), 60_000, 'it runs');
    interrupt(demo.child);
    assert.equal(await demo.ended, 0, demo.output());
  });

  it('has a configuration written, run, and fed by simulated devices', async function () {
    needTime(this);
    const [init, serve, simulate] = RUN_HERE.filter((command) => command.includes('plant'));
    await run(init!);
    const gateway = start(serve!);
    const devices = async () => {
      const answer = await fetch('http://127.0.0.1:8080/api/v1/devices').catch(() => null);
      return answer ? ((await answer.json()) as { total: number }).total : null;
    };
    await until(async () => (await devices()) === 0, 60_000, 'the gateway is there');
    const simulator = start(simulate!);
    await until(async () => (await devices()) === 20, 60_000, 'twenty devices are seen');
    interrupt(simulator.child);
    assert.ok([0, 130, null].includes(await simulator.ended), simulator.output());
    assert.match(simulator.output(), /published, \d+ acknowledged, 0 not/);
    interrupt(gateway.child);
    assert.ok([0, 130, null].includes(await gateway.ended), gateway.output());
  });

  it('has a first configuration that is valid, runs, and accepts the sample message', async function () {
    needTime(this);
    const yaml = blocks('yaml').find((block) => block.includes('# millrace.yaml'))!;
    writeFileSync(join(folder, 'millrace.yaml'), yaml);
    await run('npm run --silent millrace -- check --config millrace.yaml');
    await run(RUN_HERE.find((command) => command.startsWith('echo'))!);
    const trace = await run(RUN_HERE.find((command) => command.includes('--payload'))!);
    assert.match(trace, /environment/);
    const gateway = start('npm run --silent millrace -- run --config millrace.yaml');
    const ready = () =>
      fetch('http://127.0.0.1:8080/readyz').then(
        (response) => response.ok,
        () => false,
      );
    await until(ready, 60_000, 'the gateway is ready');
    interrupt(gateway.child);
    assert.ok([0, 130, null].includes(await gateway.ended), gateway.output());
    assert.match(gateway.output(), /"msg":"stopped"/);
  });

  it('starts the sensors sample', async function () {
    needTime(this);
    const demo = start('npm run --silent millrace -- demo --sample sensors');
    await until(() => demo.output().includes('Ctrl-C stops'), 60_000, 'the sample runs');
    interrupt(demo.child);
    assert.ok([0, 130, null].includes(await demo.ended), demo.output());
    assert.match(demo.output(), /The books balance/);
  });

  it('starts the clickstream sample, its page, and takes a click by HTTP with the answer it shows', async function () {
    needTime(this);
    const demo = start('npm run --silent millrace -- demo --sample clickstream');
    await until(() => demo.output().includes('Ctrl-C stops'), 60_000, 'the sample runs');
    const shop = start('exec node compose/samples/clickstream/shop.mjs');
    await until(() => shop.output().includes('http://127.0.0.1:8085'), 10_000, 'the page is served');
    assert.match(await (await fetch('http://127.0.0.1:8085')).text(), /counts its clicks/);
    interrupt(shop.child);
    const answer = await run(RUN_HERE.find((command) => command.startsWith('curl -s -d'))!);
    assert.ok(readme.includes(answer.trim()), answer);
    interrupt(demo.child);
    assert.ok([0, 130, null].includes(await demo.ended), demo.output());
    assert.match(demo.output(), /The books balance/);
  });

  it('starts the chat sample, takes a message by HTTP, and says what the shipped intents are worth', async function () {
    needTime(this);
    const demo = start('npm run --silent millrace -- demo --sample chat');
    await until(() => demo.output().includes('Ctrl-C stops'), 60_000, 'the sample runs');
    const answer = await run(RUN_HERE.find((command) => command.includes('/ingest/support/'))!);
    assert.equal(answer.trim(), '{"accepted":1,"refused":[]}');
    interrupt(demo.child);
    assert.ok([0, 130, null].includes(await demo.ended), demo.output());
    assert.match(demo.output(), /The books balance/);
    const worth = await run('npm run --silent millrace -- intents --train compose/samples/chat/intents.tsv');
    const [said] = /held-out accuracy [\d.]+ %/.exec(worth)!;
    assert.ok(readme.includes(said.replace('accuracy', 'accuracy of')), worth);
  });

  it('queues a command for a device with the settings it shows, and lists it', async function () {
    needTime(this);
    const settings = blocks('yaml')
      .find((block) => block.startsWith('commands:'))!
      .replace(/\$\{HTTP_TOKEN\}/, 'secret');
    // A port on which nobody listens, whatever else runs here.
    const text = `${settings.replace('8080', '8079')}data: ./commands-data\n${blocks('yaml')[0]!}`;
    writeFileSync(join(folder, 'millrace.yaml'), text);
    const sent = await run(RUN_HERE.find((command) => command.includes('commands send'))!);
    assert.match(sent, /is queued for d1/);
    const listed = await run(RUN_HERE.find((command) => command.includes('commands list'))!);
    assert.match(listed, /d1 .*queued/);
  });

  it('shows settings for Kafka and InfluxDB that complete the first configuration', async function () {
    needTime(this);
    const [first, servers] = [blocks('yaml')[0]!, blocks('yaml')[1]!];
    writeFileSync(join(folder, 'both.yaml'), `${servers}\n${first}`);
    const env = 'KAFKA=127.0.0.1:9092 INFLUX_URL=http://127.0.0.1:8086 INFLUX_TOKEN=t';
    const { ended, output } = start(`${env} npm run --silent millrace -- check --config both.yaml`);
    assert.equal(await ended, 0, output());
  });

  it('has the tables of figures that the results make (npm run generate writes them)', () => {
    const text = readFileSync(join(root, 'README.md'), 'utf8');
    assert.equal(withTables(text), text);
    assert.match(text, /<!-- figures: ingress -->\n\|/);
  });

  it('has links and files that exist', () => {
    for (const [, path] of readme.matchAll(/`((?:src|compose|test|devices-sim)\/[\w./-]+)`/g)) {
      execFileSync('ls', [join(root, path!)]);
    }
  });
});
