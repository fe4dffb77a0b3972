/** Names that no designer thought of, and pages that nobody points at: in a real browser, layout and keyboard hold. */
import assert from 'node:assert/strict';
import type { Locator, Page } from 'playwright-core';
import { systemClock } from '../../src/clock.ts';
import { photograph } from '../support/browser.ts';
import { FakeFeed } from '../support/fake-feed.ts';
import { useLivePage } from '../support/live-page.ts';
import { until } from '../support/until.ts';

const ODD: Readonly<Record<string, string>> = {
  'ten kilobytes in one word': 'w'.repeat(10_240),
  'ten kilobytes of words': 'pump hall seven '.repeat(640).trim(),
  'right to left': 'مستشعر-درجة-الحرارة-في-القاعة-الشمالية-'.repeat(8),
  'turned around': 'sensor-\u202egnp.exe\u202c-\u2066x',
  emoji: '👩‍👩‍👧‍👦🏭🌡️'.repeat(60),
  'piled marks': `z${'\u0337\u0322\u0307\u0321'.repeat(40)}algo`,
  'no width at all': 'a\u200b\u00ad\ufeffb\u0000\u0007c',
  markup:
    '<svg/onload=window.hacked=1>&lt;b&gt;<style>*{display:none}</style><a href=javascript:window.hacked=2>'.repeat(20),
};
const SIZES = { 'a screen': { width: 1_200, height: 860 }, 'a phone': { width: 390, height: 844, phone: true } };

describe('the live page with odd names', function () {
  this.timeout(90_000);
  const { show } = useLivePage();

  for (const [size, options] of Object.entries(SIZES)) {
    it(`keeps its layout on ${size}, cuts them, has the whole of them at hand, and runs nothing`, async () => {
      const names = Object.values(ODD);
      const feed = new FakeFeed(systemClock, { devices: 0, names });
      feed.facts = { ...feed.facts, gateway: ODD['ten kilobytes in one word']! };
      for (const name of names)
        feed.refuse('schema', `${name} is no number`, `x/${name}/environment`, name, name, systemClock.nowMs());
      const { page, complaints } = await show(feed, options);
      // Those of the names, three pages of a shop, and beside the long names those that were refused, by their beginning.
      await page.locator('#device-count', { hasText: /^1[1-9] devices$/ }).waitFor();
      assert.deepEqual(await overflowing(page), [], 'before any is chosen');
      const letters = page.locator('.letter summary');
      assert.equal(await letters.count(), names.length);
      for (const letter of await letters.all()) await letter.click();
      await page
        .locator('.payload')
        .nth(names.length - 1)
        .waitFor();
      assert.deepEqual(await overflowing(page), [], 'with all dead letters open');
      const topics = await titlesOf(page, '.letter-topic');
      const title = page.locator('#chart-title');
      for (const [what, name] of Object.entries(ODD)) {
        const whole = visible(name);
        assert.ok(topics.includes(`x/${whole}/environment`), `${what}: the whole topic`);
        const nameHeight = await choose(page, whole);
        await expectTitle(page, '#chart-title', whole, what);
        assert.ok(nameHeight < 32, `${what}: one line, not ${nameHeight} px`);
        const cut = await heightOf(title);
        assert.ok(cut < 70, `${what}: two lines, not ${cut} px`);
        assert.deepEqual(await overflowing(page), [], what);
        if (name.length < 5_000) continue;
        await title.focus();
        assert.ok((await heightOf(title)) > cut, `${what}: focus shows more`);
        assert.deepEqual(await overflowing(page), [], `${what}, with focus`);
        await page.locator('#device-search').focus();
      }
      assert.equal((await titlesOf(page, '#gateway'))[0]!.length, 10_240);
      await page.locator('#explore').scrollIntoViewIfNeeded();
      await photograph(page, `odd-names-${options.width}`, false);
      assert.equal(await page.locator('#connection').getAttribute('data-state'), 'live');
      assert.equal(await page.evaluate('window.hacked'), undefined);
      assert.equal(await page.locator('main svg:not(.spark), main style, main a[href^="javascript"]').count(), 0);
      // Of a name that no accepted device can have the gateway is asked for no rows that it would give.
      assert.deepEqual(
        complaints.filter((text) => !/status of 400/.test(text)),
        [],
      );
    });
  }
});

/** As `plain` of the page shows it: what hides or reorders is named, marks are not piled. */
function visible(name: string): string {
  return name
    .replace(/(\p{M}{3})\p{M}+/gu, '$1')
    .replace(
      /[\p{Cc}\p{Zl}\p{Zp}\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu,
      (char) => `⟨${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`,
    );
}

/** What makes the document scroll sideways, and text that hangs out of its box. */
async function overflowing(page: Page): Promise<unknown> {
  return page.evaluate(`(() => {
    const root = document.documentElement;
    const found = root.scrollWidth > root.clientWidth ? ['the document scrolls sideways: ' + root.scrollWidth] : [];
    const scrolls = (element) => element && element !== document.body && (/auto|scroll|hidden|clip/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
    for (const element of document.body.querySelectorAll('main *, header *')) {
      const { right, left, width } = element.getBoundingClientRect();
      if (width > 0 && (right > root.clientWidth + 1 || left < -1) && !scrolls(element.parentElement)) found.push(element.tagName + '.' + element.className + '#' + element.id);
    }
    return found;
  })()`);
}

function titlesOf(page: Page, selector: string): Promise<string[]> {
  return page.evaluate(`Array.from(document.querySelectorAll('${selector}'), ({ title }) => title)`);
}

/**
 * Chooses the device whose tooltip begins with this name, and answers how high its name is drawn. In one go: the list is sorted
 * anew when a device comes, and its rows are used again as it is scrolled.
 */
async function choose(page: Page, name: string): Promise<number> {
  const height = await page.evaluate(`(async (name) => {
    const list = document.querySelector('#device-list');
    const frame = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    for (list.scrollTop = 0; ; list.scrollTop += 100) {
      await frame();
      const rows = Array.from(document.querySelectorAll('.device:not([hidden])'));
      const row = rows.find(({ title }) => title.split('\\n')[0] === name);
      if (row) {
        row.click();
        return row.querySelector('.device-name').getBoundingClientRect().height;
      }
      if (list.scrollTop + list.clientHeight >= list.scrollHeight - 1) return null;
    }
  })(${JSON.stringify(name)})`);
  assert.ok(typeof height === 'number', `a row has the whole name ${name.slice(0, 20)}`);
  return height;
}

async function heightOf(element: Locator): Promise<number> {
  return (await element.boundingBox())!.height;
}

async function expectTitle(page: Page, selector: string, wanted: string, what: string): Promise<void> {
  await until(
    async () => (await titlesOf(page, selector))[0] === wanted,
    10_000,
    `${what}: ${selector} has the whole name`,
  );
}
