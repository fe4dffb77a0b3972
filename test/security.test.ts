/** SECURITY.md names every dependency, and only those; the ones called exact are. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const text = readFileSync(`${root}/SECURITY.md`, 'utf8');
const table = text.slice(text.indexOf('| package | why |'));
const { dependencies } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as {
  dependencies: Record<string, string>;
};

describe('SECURITY.md', () => {
  const cells = table.split('\n').map((line) => line.split('|')[1] ?? '');
  const listed = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`( \(exact\))?/g)]);

  it('says of every dependency why it is there, and of none that is gone', () => {
    assert.deepEqual(listed.map((match) => match[1]).sort(), Object.keys(dependencies).sort());
  });

  it('calls exact what is pinned, and nothing else', () => {
    const pinned = Object.keys(dependencies).filter((name) => /^\d/.test(dependencies[name]!));
    const exact = listed.filter((match) => match[2]).map((match) => match[1]);
    assert.deepEqual(exact.sort(), pinned.sort());
  });
});
