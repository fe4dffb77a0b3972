/** The import rules of src/README.md, held by the build. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const STAGES = ['ingress', 'inspect', 'journal', 'understand', 'rollup', 'score', 'store', 'view'];
/** Not a stage, but as closed as one: it judges the stages, so it shares nothing with them. */
const ROOMS = [...STAGES, 'torture'];
/** The only files that know more than one stage. */
const COMPOSERS = ['src/main.ts', 'src/pipeline.ts', 'src/cli/', 'src/parts/'];
const OWNERS: Record<string, string[]> = {
  aedes: ['src/ingress/'],
  mqtt: ['src/ingress/'],
  'mqtt-packet': ['src/ingress/'],
  ws: ['src/ingress/'],
  kafkajs: ['src/journal/'],
  avsc: ['src/journal/'],
  'aws-msk-iam-sasl-signer-js': ['src/journal/'],
  '@influxdata/influxdb-client': ['src/store/'],
  '@influxdata/influxdb-client-apis': ['src/store/'],
  'wink-nlp': ['src/understand/'],
  'wink-eng-lite-web-model': ['src/understand/'],
  'wink-naive-bayes-text-classifier': ['src/understand/'],
  'onnxruntime-web': ['src/score/'],
  fastify: ['src/view/'],
  ajv: ['src/inspect/', 'src/config/'],
  yaml: ['src/config/', 'src/ingress/', 'src/cli/'],
  commander: ['src/main.ts', 'src/cli/'],
};
const PURE = [
  /^src\/inspect\/(inspect|route|validate|enrich|time|refusal)\.ts$/,
  /^src\/inspect\/decode\//,
  /^src\/rollup\/(window|aggregate|exact-sum|histogram|engine|pane|checkpoint)\.ts$/,
  /^src\/understand\/(conversations|intents|language|message)\.ts$/,
  /^src\/score\/neighbours\.ts$/,
  /^src\/store\/(point|score-point|score-row)\.ts$/,
];
const IMPURE_IMPORTS =
  /^node:(fs|net|http|https|child_process|worker_threads|dgram|timers|tls|fs\/promises|timers\/promises)$/;

interface Source {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
}

/** Text without comments, so that words in prose are not taken for code. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
}

function importsOf(text: string): string[] {
  const code = withoutComments(text);
  const found = [...code.matchAll(/(?:^|\n)\s*(?:import|export)\s[^'";]*?from\s*'([^']+)'/g)].map((match) => match[1]!);
  const bare = [...code.matchAll(/(?:^|\n)\s*import\s*'([^']+)'/g)].map((match) => match[1]!);
  const dynamic = [...code.matchAll(/import\(\s*'([^']+)'\s*\)/g)].map((match) => match[1]!);
  return [...found, ...bare, ...dynamic];
}

function read(folder: string): Source[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => {
      const path = relative(root, join(entry.parentPath, entry.name));
      const text = readFileSync(join(root, path), 'utf8');
      return { path, text, imports: importsOf(text) };
    });
}

const sources = read('src');
const simulator = read('devices-sim');

function stageOf(path: string): string | undefined {
  const folder = path.split('/')[1] ?? '';
  return ROOMS.includes(folder) ? folder : undefined;
}

/** The shared root: what every stage may import. */
function isRoot(path: string): boolean {
  return (dirname(path) === 'src' || path.startsWith('src/config/')) && !composes(path);
}

function target(source: Source, specifier: string): string | null {
  return specifier.startsWith('.') ? relative(root, resolve(root, dirname(source.path), specifier)) : null;
}

function violations(check: (source: Source, specifier: string, path: string | null) => string | false): string[] {
  return sources.flatMap((source) =>
    source.imports.flatMap((specifier) => {
      const wrong = check(source, specifier, target(source, specifier));
      return wrong ? [`${source.path}: ${wrong}`] : [];
    }),
  );
}

const composes = (path: string) => COMPOSERS.some((composer) => path.startsWith(composer));

describe('The structure', () => {
  it('is read by this test at all', () => {
    assert.ok(sources.length > 8);
    assert.ok(sources.some((source) => source.imports.length > 0));
  });

  it('lets a stage, and the torture, import only their own folder and the shared root files', () => {
    assert.deepEqual(
      violations((source, specifier, path) => {
        const stage = stageOf(source.path);
        if (!stage || !path) return false;
        const inOwnFolder = path.startsWith(`src/${stage}/`);
        return !inOwnFolder && !isRoot(path) && `imports ${specifier}`;
      }),
      [],
    );
  });

  it('keeps the shared root files free of stages', () => {
    assert.deepEqual(
      violations((source, specifier, path) => {
        if (!isRoot(source.path)) return false;
        return path !== null && (stageOf(path) !== undefined || composes(path)) && `imports ${specifier}`;
      }),
      [],
    );
  });

  it('lets only the command line import the pipeline', () => {
    assert.deepEqual(
      violations((source, specifier, path) => {
        const allowed = source.path === 'src/main.ts' || source.path.startsWith('src/cli/');
        return path === 'src/pipeline.ts' && !allowed && `imports ${specifier}`;
      }),
      [],
    );
  });

  it('gives each client library one owner', () => {
    assert.deepEqual(
      violations((source, specifier) => {
        const library = Object.keys(OWNERS).find((name) => specifier === name || specifier.startsWith(`${name}/`));
        return !!library && !OWNERS[library]!.some((owner) => source.path.startsWith(owner)) && `imports ${specifier}`;
      }),
      [],
    );
  });

  it('has no import cycles', () => {
    const edges = new Map(
      sources.map((source) => [
        source.path,
        source.imports.map((specifier) => target(source, specifier)).filter((path) => path !== null),
      ]),
    );
    const cycles: string[] = [];
    const finished = new Set<string>();
    const visit = (path: string, trail: string[]): void => {
      if (trail.includes(path)) {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
        return;
      }
      if (finished.has(path)) return;
      for (const next of edges.get(path) ?? []) visit(next, [...trail, path]);
      finished.add(path);
    };
    for (const path of edges.keys()) visit(path, []);
    assert.deepEqual(cycles, []);
  });

  it('reads the machine clock only in clock.ts and the environment only in main.ts and config.ts', () => {
    const wrong = sources.flatMap(({ path, text }) => {
      const code = withoutComments(text);
      const found: string[] = [];
      if (/\bDate\.now\b|\bnew Date\(\)/.test(code) && path !== 'src/clock.ts') found.push(`${path}: reads the clock`);
      if (/\bprocess\.env\b/.test(code) && !/^src\/(main|config)\.ts$/.test(path)) {
        found.push(`${path}: reads the environment`);
      }
      return found;
    });
    assert.deepEqual(wrong, []);
  });

  it('keeps the pure files free of I/O, timers and loggers', () => {
    const wrong = sources
      .filter(({ path }) => PURE.some((pattern) => pattern.test(path)))
      .flatMap(({ path, text, imports }) => {
        const code = withoutComments(text);
        const impure = imports.filter(
          (specifier) => IMPURE_IMPORTS.test(specifier) || /telemetry\.ts$/.test(specifier),
        );
        const calls = code.match(/\b(setTimeout|setInterval|setImmediate|console\.|process\.|Math\.random)\b/g) ?? [];
        return [...impure, ...calls].map((what) => `${path}: ${what}`);
      });
    assert.deepEqual(wrong, []);
  });

  it('keeps the simulator a black box: it imports nothing from src', () => {
    const wrong = simulator.flatMap((source) =>
      source.imports.filter((specifier) => target(source, specifier)?.startsWith('src')).map(() => source.path),
    );
    assert.deepEqual(wrong, []);
  });

  it('has no default exports, barrel files, enums or folders by language construct', () => {
    const wrong = [...sources, ...simulator].flatMap(({ path, text }) => {
      const code = withoutComments(text);
      const found: string[] = [];
      if (/^export default\b/m.test(code)) found.push(`${path}: default export`);
      if (/^export \*/m.test(code)) found.push(`${path}: barrel export`);
      if (/\/(utils?|types|helpers|index)(\.ts|\/)/.test(path)) found.push(`${path}: name says no job`);
      return found;
    });
    assert.deepEqual(wrong, []);
  });

  it('gives no test file hooks outside its suites, which would run around the tests of all files', () => {
    const wrong = read('test').filter(({ text }) => /^(before|after)(Each)?\(/m.test(text));
    assert.deepEqual(
      wrong.map(({ path }) => path),
      [],
    );
  });

  it('says the job of every file in its first lines', () => {
    const silent = [...sources, ...simulator]
      .filter(({ text }) => !/^(#!.*\n)?(\/\*\*|\/\/)/.test(text))
      .map(({ path }) => path);
    assert.deepEqual(silent, []);
  });
});
