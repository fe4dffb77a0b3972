/**
 * The pictures of the README: `npm run screenshots`. Starts the demo on data of its own, gives it a few minutes
 * for windows to close, and photographs the page light and dark.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/torture/program.ts';
import { startBrowser, visit } from './browser.ts';

/** For the chart to have something to show: windows of 10 s. */
const RUN_MS = 180_000;
/** For rates and curves to settle after the page has opened. */
const SHOW_MS = 20_000;
const root = fileURLToPath(new URL('../..', import.meta.url));

const data = mkdtempSync(join(tmpdir(), 'millrace-screenshots-'));
const [mqttPort, httpPort] = [await freePort(), await freePort()];
const args = ['demo', '--faults', '--data', data, '--port', `${mqttPort}`, '--http-port', `${httpPort}`];
const demo = spawn(process.execPath, [join(root, 'compose/start.mjs'), ...args], {
  stdio: ['ignore', 'ignore', 'inherit'],
});
const browser = await startBrowser();
try {
  await sleep(RUN_MS);
  for (const [name, section] of [
    ['light', 'header'],
    ['dark', '#explore'],
  ] as const) {
    const size = { width: 1200, height: 860 };
    const { page, close } = await visit(browser, `http://127.0.0.1:${httpPort}/`, { ...size, dark: name === 'dark' });
    await page.locator('#chart canvas').waitFor();
    await page.evaluate(`document.querySelector('${section}').scrollIntoView({ block: 'start' })`);
    await sleep(SHOW_MS);
    await page.screenshot({ path: join(root, `compose/page/${name}.png`) });
    await close();
  }
} finally {
  await browser.close();
  demo.kill('SIGINT');
  await once(demo, 'exit');
  rmSync(data, { recursive: true, force: true });
}
