/**
 * The official test suite of JSON Schema. No registry has it as a package of its own in a version with draft 2020-12; the source
 * package of Python's jsonschema carries it (MIT). `npm run schema-suite` has pip fetch that one, checks its hash, and unpacks
 * the suite into the cache of the local stack, schema-suite/VERSION: 4 MB. It runs none of it. Needs python3 with venv, and tar.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, runTool, StackError } from '../../compose/stack/provision.ts';

const VERSION = '4.25.1';
const SHA256 = 'e4a9655ce0da0c0b67a085847e00a3a51449e1157f4f75e9fb5aa545e122eb85';
const PIP_DEADLINE_MS = 10 * 60_000;

export type SuiteDraft = 'draft7' | 'draft2020-12';

export interface SuiteGroup {
  readonly description: string;
  readonly schema: object | boolean;
  readonly tests: readonly { readonly description: string; readonly data: unknown; readonly valid: boolean }[];
}

export interface SuiteFile {
  /** `draft7/optional/format/date` */
  readonly name: string;
  readonly groups: readonly SuiteGroup[];
}

/** The files of a draft in order; null: the suite is not here. */
export function readSchemaSuite(draft: SuiteDraft): SuiteFile[] | null {
  const tests = join(suiteFolder(), 'tests');
  if (!existsSync(tests)) return null;
  return readdirSync(join(tests, draft), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.json'))
    .sort()
    .map((path) => ({
      name: `${draft}/${path.slice(0, -'.json'.length)}`,
      groups: JSON.parse(readFileSync(join(tests, draft, path), 'utf8')),
    }));
}

function suiteFolder(): string {
  return join(cacheFolder(), 'schema-suite', VERSION);
}

async function provision(): Promise<void> {
  const home = suiteFolder();
  if (existsSync(home)) return;
  mkdirSync(join(home, '..'), { recursive: true });
  const scratch = mkdtempSync(join(home, '..', 'fetch-'));
  try {
    const requirements = join(scratch, 'requirements.txt');
    writeFileSync(requirements, `jsonschema==${VERSION} --hash=sha256:${SHA256}\n`);
    await runTool('python3', ['-m', 'venv', join(scratch, 'venv')], PIP_DEADLINE_MS);
    const download = ['download', '--quiet', '--disable-pip-version-check', '--no-deps', '--no-binary', 'jsonschema'];
    const pip = ['-m', 'pip', ...download, '--require-hashes', '-r', requirements, '-d', scratch];
    await runTool(join(scratch, 'venv', 'bin', 'python'), pip, PIP_DEADLINE_MS);
    const archive = join(scratch, `jsonschema-${VERSION}.tar.gz`);
    await runTool('tar', ['-xzf', archive, '-C', scratch, `jsonschema-${VERSION}/json`], PIP_DEADLINE_MS);
    renameSync(join(scratch, `jsonschema-${VERSION}`, 'json'), home);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await provision().catch((error) => {
    if (!(error instanceof StackError)) throw error;
    console.error(`schema-suite: ${error.message}`);
    process.exitCode = 1;
  });
}
