/** The files that a configuration names: there, readable, and, for certificates, fit to be used together. */
import { constants } from 'node:fs';
import { access, readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { createSecureContext } from 'node:tls';
import { messageOf } from '../errors.ts';
import { nearestName, type Report, show } from './report.ts';

export interface NamedFile {
  readonly pointer: string;
  /** As the user wrote it. */
  readonly path: string;
  readonly resolved: string;
}

export async function checkFiles(files: readonly NamedFile[], report: Report): Promise<void> {
  for (const file of files) await checkFile(file, report);
  const sections = new Set(
    files.filter(({ pointer }) => /\/tls\/\w+$/.test(pointer)).map(({ pointer }) => dirname(pointer)),
  );
  for (const section of sections) await checkCertificates(section, files, report);
}

async function checkFile({ pointer, path, resolved }: NamedFile, report: Report): Promise<void> {
  if (report.isBroken(pointer)) return;
  const value = path;
  try {
    if (!(await stat(resolved)).isFile()) {
      report.mistake(pointer, { message: `${show(path)} is not a file`, value, wayOut: `it stands for ${resolved}` });
      return;
    }
    await access(resolved, constants.R_OK);
  } catch (error) {
    if (!isMissing(error)) {
      report.mistake(pointer, { message: `${show(path)} cannot be read: ${messageOf(error)}`, value });
      return;
    }
    const folder = dirname(resolved);
    const present = await readdir(folder).catch(() => null);
    const close = nearestName(basename(resolved), present ?? []);
    const nearest = close === null ? null : path.slice(0, path.length - basename(path).length) + close;
    const wayOut = present === null ? `there is no folder ${folder}` : `looked for ${resolved}`;
    report.mistake(pointer, { message: `the file ${show(path)} does not exist`, value, nearest, wayOut });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

/** Certificate, key and authorities as OpenSSL sees them: the same check as when the listener starts. */
async function checkCertificates(section: string, files: readonly NamedFile[], report: Report): Promise<void> {
  const of = (name: string) => files.find(({ pointer }) => pointer === `${section}/${name}`);
  const read = async (name: string) => {
    const file = of(name);
    return file && !report.isBroken(file.pointer) ? await readFile(file.resolved).catch(() => undefined) : undefined;
  };
  const [cert, key, ca] = [await read('cert'), await read('key'), await read('ca')];
  const tried = (options: Parameters<typeof createSecureContext>[0], pointer: string, what: string): boolean => {
    try {
      createSecureContext(options);
      return true;
    } catch (error) {
      report.mistake(pointer, { message: `${what}: ${messageOf(error)}` });
      return false;
    }
  };
  const goodCa = ca === undefined || tried({ ca }, `${section}/ca`, 'not certificates');
  const goodCert = cert === undefined || tried({ cert }, `${section}/cert`, 'not a certificate');
  const goodKey = key === undefined || tried({ key }, `${section}/key`, 'not a private key');
  if (cert && key && goodCa && goodCert && goodKey)
    tried({ cert, key }, `${section}/key`, 'does not fit the certificate');
}
