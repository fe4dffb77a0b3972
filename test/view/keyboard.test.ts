/** The live page without a mouse: what Tab reaches, in which order, and whether one sees where one is. */
import assert from 'node:assert/strict';
import type { Page } from 'playwright-core';
import { systemClock } from '../../src/clock.ts';
import { FakeFeed } from '../support/fake-feed.ts';
import { expectText, useLivePage } from '../support/live-page.ts';
import { until } from '../support/until.ts';

const MOST_TABS = 80;

interface Stop {
  readonly what: string;
  /** Someone who looks sees where the focus is, and it is not below the bar at the top. */
  readonly shown: boolean;
}

describe('the live page by keyboard', function () {
  this.timeout(60_000);
  const { show } = useLivePage();

  it('is walked through with Tab in the order in which it is read, and shows where one is', async () => {
    const feed = new FakeFeed(systemClock, { devices: 3 });
    feed.refuse('malformed', 'not JSON', 'nowhere', 'x', '{', systemClock.nowMs());
    feed.setPart({ kind: 'kafka', name: 'kafka', stage: 'journal', state: 'away', sinceMs: systemClock.nowMs() });
    const { page, complaints } = await show(feed, { width: 1_200, height: 860 });
    await page.locator('#chart canvas').waitFor();
    await page.locator('.problem').first().waitFor();
    await page.locator('.letter').first().waitFor();
    const stops = await walk(page);
    assert.deepEqual(
      stops.map(({ what }) => what),
      [
        'Skip to the content',
        ...['Flow', 'Streams', 'Devices', 'Dead letters', '#theme'],
        'problem',
        ...['environment', 'clicks'],
        ...['#device-search', '#device-stream', '#device-order', '#device-list'],
        ...['#chart-metric', 'chart-window 10s', 'chart-range 300000', '#chart', '#chart-percentiles'],
        ...['#zoom-back', '#zoom-out', '#zoom-in', '#zoom-forward'],
        ...['Newest rows as a table', '#rows-link', 'letter'],
        ...['status', 'streams', 'devices', 'dead letters', 'metrics', 'readiness'],
      ],
    );
    assert.deepEqual(
      stops.filter(({ shown }) => !shown).map(({ what }) => what),
      [],
      'reached, but not seen',
    );
    assert.deepEqual(complaints, []);
  });

  it('chooses window and range with arrows, and keeps the focus where it was while the page goes on', async () => {
    const { page } = await show(new FakeFeed(systemClock, { devices: 3 }));
    await page.locator('#chart canvas').waitFor();
    await page.locator('#chart-window input:checked').focus();
    await page.keyboard.press('ArrowRight');
    await expectText(page, '#chart-sub', /windows of 1m/);
    assert.equal(await focused(page), 'chart-window 1m');
    await page.locator('#chart-range input:checked').focus();
    await page.keyboard.press('ArrowRight');
    await until(async () => (await focused(page)) === 'chart-range 900000');
    const received = async () => Number(await page.locator('#stage-ingress .counters dd').first().textContent());
    const before = await received();
    await until(async () => (await received()) > before, 10_000, 'the page goes on');
    assert.equal(await focused(page), 'chart-range 900000');
  });

  it('opens a letter, asks for the token, and gives the focus back when one changes one’s mind', async () => {
    const feed = new FakeFeed(systemClock, { devices: 1 });
    feed.refuse('malformed', 'not JSON', 'nowhere', 'x', '{', systemClock.nowMs());
    const { page } = await show(feed, { token: 'secret' });
    await page.locator('.letter summary').first().focus();
    await page.keyboard.press('Enter');
    await page.locator('.payload').waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(`document.activeElement.className`), 'payload');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.locator('#token').waitFor();
    assert.equal(await focused(page), '#token');
    await page.keyboard.press('Escape');
    await page.locator('#token-dialog').waitFor({ state: 'hidden' });
    assert.equal(await page.evaluate(`document.activeElement.textContent`), 'Send again');
  });

  it('skips to the content', async () => {
    const { page } = await show(new FakeFeed(systemClock, { devices: 1 }));
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await until(async () => page.url().endsWith('#verdict'));
    await page.keyboard.press('Tab');
    assert.notEqual(await focused(page), 'Flow', 'the links at the top are passed over');
  });
});

const NAME = `(element) => {
  const problem = element.closest('.problem, .letter');
  if (problem) return problem.className;
  if (element.type === 'radio') return element.name + ' ' + element.value;
  return element.id ? '#' + element.id : element.textContent.trim();
}`;

function focused(page: Page): Promise<string> {
  return page.evaluate(`(${NAME})(document.activeElement)`);
}

/** Presses Tab until the page is left, and says where it came by. */
async function walk(page: Page): Promise<Stop[]> {
  const stops: Stop[] = [];
  for (let tabs = 0; tabs < MOST_TABS; tabs++) {
    await page.keyboard.press('Tab');
    const stop = (await page.evaluate(`(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const drawn = element.type === 'radio' ? element.nextElementSibling : element;
      const { outlineStyle, outlineWidth } = getComputedStyle(drawn);
      const { top, bottom, width } = drawn.getBoundingClientRect();
      const bar = element.closest('.top, .skip') ? 0 : document.querySelector('.top').getBoundingClientRect().bottom;
      const shown = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1 && width > 0 && bottom > bar && top < innerHeight;
      return { what: (${NAME})(element), shown };
    })()`)) as Stop | null;
    if (stop === null) return stops;
    stops.push(stop);
  }
  throw new Error(`the page is not left after ${MOST_TABS} times Tab`);
}
