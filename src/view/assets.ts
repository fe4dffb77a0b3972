/**
 * The files of the live page, read once at the start and served from memory: no request ever reaches the disk. uPlot comes from
 * its package; nothing is loaded from elsewhere.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

export interface Asset {
  readonly type: string;
  readonly etag: string;
  readonly body: Buffer;
  readonly gzipped: Buffer;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** By name: `index.html`, `main.js`, `uPlot.esm.js`. */
export function loadAssets(): ReadonlyMap<string, Asset> {
  const assets = new Map<string, Asset>();
  const page = fileURLToPath(new URL('./page/', import.meta.url));
  for (const name of readdirSync(page)) add(assets, name, join(page, name));
  const uplot = join(dirname(createRequire(import.meta.url).resolve('uplot/package.json')), 'dist');
  for (const name of ['uPlot.esm.js', 'uPlot.min.css']) add(assets, name, join(uplot, name));
  return assets;
}

function add(assets: Map<string, Asset>, name: string, path: string): void {
  const type = TYPES[extname(name)];
  if (type === undefined) return;
  const body = readFileSync(path);
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
  assets.set(name, { type, etag, body, gzipped: gzipSync(body) });
}
