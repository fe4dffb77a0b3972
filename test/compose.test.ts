/** What is deployed: the compose file is valid by the compose specification's own loader, and safe by its contents. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { leaveOut } from './support/servers.ts';

const folder = fileURLToPath(new URL('../compose', import.meta.url));
const read = (name: string) => readFileSync(join(folder, name), 'utf8');
/** The reference loader of the specification, with its JSON schema and its consistency checks. */
const LOADER = 'github.com/compose-spec/compose-go/v2/cmd@v2.16.2';

const sample = Object.fromEntries(
  read('.env.example')
    .split('\n')
    .filter((line) => /^[A-Z]/.test(line))
    .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
);

interface Service {
  image?: string;
  ports?: string[];
  volumes?: string[];
  healthcheck?: { test?: unknown };
  user?: string;
}
const compose = parse(read('compose.yaml'), { merge: true }) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
};

function load(text: string): { status: number | null; output: string } {
  // The loader's command reads no .env file, so the values of .env.example are put in here.
  const copy = mkdtempSync(join(tmpdir(), 'millrace-compose-'));
  try {
    const filled = text.replace(/\$\{(\w+)(?::[-?]([^}]*))?\}/g, (_, name, otherwise) => sample[name] ?? otherwise);
    writeFileSync(join(copy, 'compose.yaml'), filled);
    const env = { ...process.env, GOFLAGS: '-buildvcs=false' };
    const run = spawnSync('go', ['run', LOADER, 'compose.yaml'], { cwd: copy, env, encoding: 'utf8' });
    return { status: run.status, output: run.stdout + run.stderr };
  } finally {
    rmSync(copy, { recursive: true });
  }
}

describe('The compose file', () => {
  it("is accepted by the compose specification's own loader, which refuses a misspelt key", function () {
    if (spawnSync('go', ['version']).status !== 0) leaveOut(this, 'go');
    this.timeout(180_000);
    const good = load(read('compose.yaml'));
    assert.equal(good.status, 0, good.output);
    const bad = load(read('compose.yaml').replace('healthcheck:', 'healthchek:'));
    assert.notEqual(bad.status, 0);
    assert.match(bad.output, /healthchek/);
  });

  it('publishes every port on the loopback address unless the user says otherwise', () => {
    const ports = Object.values(compose.services).flatMap((service) => service.ports ?? []);
    assert.ok(ports.length >= 4);
    for (const port of ports) assert.ok(port.startsWith(`\${PUBLISH_HOST:-127.0.0.1}:`), port);
  });

  it('has no password of its own: each comes from the environment and is required', () => {
    const text = read('compose.yaml');
    for (const name of ['INFLUX_PASSWORD', 'INFLUX_TOKEN', 'GRAFANA_PASSWORD', 'MILLRACE_HTTP_TOKEN']) {
      assert.ok(text.includes(`\${${name}:?`), `${name} is required`);
      assert.ok(name in sample, `${name} is in .env.example`);
    }
    assert.doesNotMatch(text, /(PASSWORD|TOKEN)\S*: (?!\$)["']?\w/);
  });

  it('pins every image and checks the health of every long-running service', () => {
    for (const [name, service] of Object.entries(compose.services)) {
      assert.match(service.image ?? '', /:(v?\d+\.\d+|local)/, `${name} is pinned`);
      if (name !== 'simulator') assert.ok(service.healthcheck, `${name} has a health check`);
    }
  });

  it('keeps every state in a named volume', () => {
    for (const name of ['kafka', 'influxdb', 'gateway', 'rollup', 'prometheus', 'grafana']) {
      assert.ok(name in compose.volumes, `volume ${name}`);
      assert.ok(
        compose.services[name]?.volumes?.some((volume) => volume.startsWith(`${name}:`)),
        `${name} uses it`,
      );
    }
  });

  it('mounts only files that are in the repository', () => {
    for (const service of Object.values(compose.services)) {
      for (const volume of service.volumes ?? []) {
        const [source = ''] = volume.split(':');
        if (source.startsWith('./')) assert.ok(existsSync(join(folder, source)), source);
      }
    }
  });

  it('builds an image that does not run as root', () => {
    const lines = read('Dockerfile').split('\n');
    const user = lines.findLastIndex((line) => line.startsWith('USER '));
    assert.ok(user > lines.findLastIndex((line) => line.startsWith('FROM ')));
    assert.doesNotMatch(lines[user]!, /root|\b0\b/);
  });
});
