/** Telegraf, a peer of the benches: built once from its Go module into the cache folder. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder } from '../../../compose/stack/provision.ts';

const TELEGRAF_VERSION = 'v1.37.2';

/** The binary's path. */
export function provisionTelegraf(): string {
  const folder = join(cacheFolder(), 'telegraf');
  const script = fileURLToPath(new URL('build-telegraf.sh', import.meta.url));
  const built = spawnSync('bash', [script, folder, TELEGRAF_VERSION], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (built.status !== 0) throw new Error('Telegraf could not be built; what is missing is said above');
  return join(folder, `telegraf-${TELEGRAF_VERSION}`);
}
