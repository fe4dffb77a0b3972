/**
 * The name of a spool: a random text in the file `id` of its folder, made once, durable before it is used. Together with an
 * offset it names a record for ever, also after a data folder was lost and another begins at offset 0 again.
 */
import { randomBytes } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { type Outcome, succeed } from '../errors.ts';
import { nodeFiles, systemCode } from './files.ts';
import { ioFailure } from './io-failure.ts';

const FORM = /^[0-9a-f]{12}$/;

/** By the owner of the folder's lock. */
export async function spoolId(folder: string): Promise<Outcome<string>> {
  try {
    const known = await readSpoolId(folder);
    if (known !== null) return succeed(known);
    const id = randomBytes(6).toString('hex');
    const path = join(folder, 'id');
    const file = await open(`${path}.new`, 'w', 0o640);
    try {
      await file.writeFile(id);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    await nodeFiles.syncFolder(folder);
    return succeed(id);
  } catch (error) {
    return { ok: false, failure: ioFailure(`the id of the spool in ${folder} cannot be read or made`, error) };
  }
}

/** Null: it has none yet. */
export async function readSpoolId(folder: string): Promise<string | null> {
  try {
    const text = (await readFile(join(folder, 'id'), 'utf8')).trim();
    return FORM.test(text) ? text : null;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}
