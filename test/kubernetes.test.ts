/**
 * The Kubernetes manifests: each object is written into a program as a value of its type in the Kubernetes API and given to
 * the TypeScript compiler, which refuses a misspelt key, a missing one and a value of another kind. Then what ties the objects together.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Deployment, StatefulSet } from 'kubernetes-types/apps/v1.js';
import type { ConfigMap, Container, PodSpec, Service } from 'kubernetes-types/core/v1.js';
import type { PodDisruptionBudget } from 'kubernetes-types/policy/v1.js';
import { parseAllDocuments } from 'yaml';
import { formatMistake } from '../src/config/report.ts';
import { parseConfig } from '../src/config.ts';
import { STOP_LIMIT_MS } from '../src/parts/threads.ts';

type Manifest = ConfigMap | Deployment | PodDisruptionBudget | Service | StatefulSet;

const root = fileURLToPath(new URL('..', import.meta.url));
const text = readFileSync(join(root, 'compose/kubernetes/millrace.yaml'), 'utf8');

function read(yaml: string): Manifest[] {
  return parseAllDocuments(yaml).map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as Manifest;
  });
}

/** What the compiler says about them; '' = nothing. */
function typeErrors(manifests: readonly Manifest[]): string {
  const folder = mkdtempSync(join(root, 'node_modules/.manifests-'));
  try {
    const values = manifests.map(({ apiVersion, kind }, i) => {
      const module = apiVersion === 'v1' ? 'core/v1' : apiVersion;
      const value = JSON.stringify(manifests[i], null, 1);
      return `export const object${i}: import('kubernetes-types/${module}.js').${kind} = ${value};`;
    });
    writeFileSync(join(folder, 'manifests.ts'), values.join('\n'));
    const tsc = [
      join(root, 'node_modules/typescript/bin/tsc'),
      '--ignoreConfig',
      '--noEmit',
      '--strict',
      '--skipLibCheck',
    ];
    const options = ['--module', 'nodenext', '--moduleResolution', 'nodenext', '--types', ''];
    const run = spawnSync(process.execPath, [...tsc, ...options, join(folder, 'manifests.ts')], { encoding: 'utf8' });
    assert.equal(run.status === 0, run.stdout === '', run.stderr);
    return run.stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const manifests = read(text);
const of = <T extends Manifest>(kind: string) => manifests.filter((one) => one.kind === kind) as T[];
const [gateway] = of<StatefulSet>('StatefulSet') as [StatefulSet];
const [rollup] = of<Deployment>('Deployment') as [Deployment];
const podOf = ({ spec }: StatefulSet | Deployment): PodSpec => spec!.template.spec!;
const containerOf = (from: StatefulSet | Deployment): Container => podOf(from).containers[0]!;

describe('The Kubernetes manifests', function () {
  this.timeout(60_000);

  it('are what the Kubernetes API defines', () => assert.equal(typeErrors(manifests), ''));

  const planted: [string, string, RegExp][] = [
    ['readinessProbe:', 'readynessProbe:', /readynessProbe/],
    ['terminationGracePeriodSeconds: 60', 'terminationGracePeriodSeconds: "60"', /not assignable to type 'number'/],
    ['volumeClaimTemplates:', 'volumeClaims:', /volumeClaims/],
    ['name: mqtt, containerPort: 1883', 'name: mqtt', /containerPort/],
  ];
  for (const [good, bad, said] of planted.filter(([good]) => text.includes(good))) {
    it(`would be refused with ${bad} in the place of ${good}`, () => {
      assert.match(typeErrors(read(text.replace(good, bad))), said);
    });
  }

  it('hold a configuration that is valid, for both roles', () => {
    const [{ data }] = of<ConfigMap>('ConfigMap') as [ConfigMap];
    for (const pods of [gateway, rollup]) {
      const named = (containerOf(pods).env ?? []).map(({ name, value }) => [name, value ?? 'pod-0']);
      const env = { ...Object.fromEntries(named), INFLUX_TOKEN: 't', MILLRACE_HTTP_TOKEN: 't' };
      const options = { file: 'millrace.yaml', env, baseFolder: '/etc/millrace', hostName: 'h' };
      const loaded = parseConfig(data!['millrace.yaml']!, options);
      assert.ok(loaded.ok, loaded.ok ? '' : loaded.mistakes.map(formatMistake).join('\n'));
      const ports = containerOf(pods).ports!.map(({ containerPort }) => containerPort);
      assert.ok(ports.includes(loaded.config.http.port));
      if (pods === gateway) assert.ok(ports.includes(loaded.config.mqtt.listeners[0]!.port));
      assert.ok(containerOf(pods).volumeMounts!.some(({ mountPath }) => mountPath === loaded.config.data));
      assert.ok(containerOf(pods).args!.includes(pods === gateway ? 'gateway' : 'rollup'));
    }
  });

  it('give a stop in order more time than it may take', () => {
    for (const pods of [gateway, rollup]) {
      const seconds = podOf(pods).terminationGracePeriodSeconds ?? 30;
      // Both threads of a process, one after the other, and as much again for what is pending and for the spool.
      assert.ok(seconds * 1_000 >= 3 * STOP_LIMIT_MS, `${seconds} s`);
    }
  });

  it('ask /livez and /readyz of a port that the container names, and keep the spool on a volume that stays', () => {
    for (const pods of [gateway, rollup]) {
      const { readinessProbe, livenessProbe, startupProbe, ports } = containerOf(pods);
      assert.equal(readinessProbe?.httpGet?.path, '/readyz');
      assert.equal(livenessProbe?.httpGet?.path, '/livez');
      for (const probe of [readinessProbe, livenessProbe, startupProbe]) {
        assert.ok(ports!.some(({ name }) => name === probe?.httpGet?.port));
      }
    }
    const claims = gateway.spec!.volumeClaimTemplates!.map(({ metadata }) => metadata?.name);
    const mount = containerOf(gateway).volumeMounts!.find(({ mountPath }) => mountPath === '/data');
    assert.ok(claims.includes(mount?.name));
    assert.equal(gateway.spec!.persistentVolumeClaimRetentionPolicy?.whenScaled, 'Retain');
  });

  it('select by labels that the pods have', () => {
    const labelled = [gateway, rollup].map((pods) => ({
      labels: pods.spec!.template.metadata!.labels!,
      ports: containerOf(pods).ports!.map(({ name }) => name),
    }));
    const matches = (wanted: Record<string, string> = {}) =>
      labelled.filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value));
    for (const { spec } of of<Service>('Service')) {
      const found = matches(spec!.selector);
      assert.equal(found.length, 1);
      for (const { targetPort } of spec!.ports!) assert.ok(found[0]!.ports.includes(String(targetPort)));
    }
    for (const { spec } of of<PodDisruptionBudget>('PodDisruptionBudget')) {
      assert.equal(matches(spec!.selector!.matchLabels).length, 1);
      assert.equal(spec!.maxUnavailable, 1);
    }
    for (const { spec } of [gateway, rollup]) assert.equal(matches(spec!.selector.matchLabels).length, 1);
    const names = of<Service>('Service').map(({ metadata }) => metadata?.name);
    assert.ok(names.includes(gateway.spec!.serviceName));
  });
});
