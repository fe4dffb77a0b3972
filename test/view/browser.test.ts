import assert from 'node:assert/strict';
import type { Page } from 'playwright-core';
import { systemClock } from '../../src/clock.ts';
import { Board } from '../../src/view/board.ts';
import { photograph } from '../support/browser.ts';
import { FakeFeed } from '../support/fake-feed.ts';
import { expectText, useLivePage } from '../support/live-page.ts';

describe('the live page in a browser', function () {
  this.timeout(60_000);
  const live = useLivePage();
  const { show } = live;

  it('shows what flows, whether it is healthy, and a chart of windows that are closed and still open', async () => {
    const { page, complaints } = await show(new FakeFeed(systemClock, { devices: 24 }));
    await expectText(page, '#verdict-title', /All is well: readings are flowing/);
    assert.deepEqual(await page.locator('#stages h3').allTextContents(), [
      'Ingress',
      'Inspect',
      'Journal',
      'Rollup',
      'Store',
    ]);
    await expectText(page, '#stage-ingress .big', /^2\d\.\d$/);
    await expectText(page, '#stage-ingress .queue-depth', /KiB of 64\.0 MiB/);
    for (const name of ['ingress', 'inspect', 'journal', 'rollup', 'store']) {
      await expectText(page, `#stage-${name} .facts`, /half within\d.*(µs|ms|s)99 % within\d.*(µs|ms|s)$/);
    }
    await expectText(page, '#stage-journal .counters', /in Kafka, half\d+ msin Kafka, 99 %\d+ ms$/);
    await expectText(page, '#stage-inspect .queue', /^Nothing waits here–$/);
    await expectText(page, '#stage-journal .queue-depth', /MiB of 10\.0 GiB/);
    await expectText(page, '#stage-rollup .queue-depth', /^\d+ in Kafka$/);
    await expectText(page, '#stage-rollup .counters', /open series72 of 100K|open series81 of 100K/);
    await expectText(page, '#stage-store .queue-depth', /^\d+ of 40,000$/);
    await expectText(page, '#chart-title', /^sensor-1$/);
    await page.locator('#chart canvas').waitFor();
    assert.ok((await accentPixels(page)) > 300, 'the mean is drawn');
    await page.locator('details.rows summary').click();
    await expectText(page, '#row-table', /open.*final/s);
    await page.locator('#chart-percentiles').check();
    await expectText(page, '#legend', /p99/);
    await photograph(page, 'page-light');
    assert.deepEqual(complaints, []);
  });

  it('never takes a name, a topic, a reason or a payload for markup', async () => {
    const evil = '<img src=x onerror="window.hacked=1">';
    const script = '</textarea><script>window.hacked=2</script>';
    const feed = new FakeFeed(systemClock, { devices: 2, names: [evil, script, 'javascript:window.hacked=3'] });
    feed.facts = { ...feed.facts, gateway: evil };
    feed.setPart({
      kind: 'kafka',
      name: 'kafka',
      stage: 'journal',
      state: 'away',
      failure: { code: 'KAFKA_UNREACHABLE', message: script },
    });
    for (const text of [evil, script]) feed.refuse('malformed', text, text, text, text, systemClock.nowMs());
    const { page, complaints } = await show(feed);
    await expectText(page, '#gateway', /<img src=x/);
    await expectText(page, '#problems', /<script>/);
    await expectText(page, '#device-list', /<\/textarea>.*<img src=x/s);
    for (const row of await page.locator('.device').all()) if (await row.isVisible()) await row.click();
    await page.getByRole('option', { name: evil }).click();
    await expectText(page, '#chart-title', /<img src=x onerror="window.hacked=1">/);
    await page.locator('details.rows summary').click();
    for (const letter of await page.locator('.letter summary').all()) await letter.click();
    await expectText(page, '.payload >> nth=1', /<img src=x/);
    await page.locator('#device-search').fill(evil);
    await expectText(page, '#device-count', /^1 device found$/);
    await page.reload();
    await expectText(page, '#chart-title', /<img/);
    assert.equal(await page.evaluate('window.hacked'), undefined);
    assert.equal(await page.locator('img, iframe, script:not([src])').count(), 0);
    assert.deepEqual(complaints, []);
  });

  it('refuses by policy even what a mistake in the page would let through', async () => {
    const { page } = await show(new FakeFeed(systemClock, { devices: 1 }));
    const outcomes = await page.evaluate(`(async () => {
      const attempt = (what) => { try { what(); return 'done'; } catch (error) { return error.name; } };
      const element = document.createElement('div');
      const outcomes = [
        attempt(() => { element.innerHTML = '<b>x</b>'; }),
      ];
      // From a timer: what a debugger evaluates itself is let through.
      outcomes.push(await new Promise((resolve) => setTimeout(() => resolve(attempt(() => { eval('window.hacked = 1'); })))));
      attempt(() => element.setAttribute('onclick', 'window.hacked = 2'));
      element.click();
      outcomes.push(await fetch('http://127.0.0.1:9/', { mode: 'no-cors' }).then(() => 'done', (error) => error.name));
      return outcomes;
    })()`);
    assert.deepEqual(outcomes, ['TypeError', 'EvalError', 'TypeError']);
    assert.equal(await page.evaluate('window.hacked'), undefined);
  });

  it('finds a device by search and shows another by the keyboard', async () => {
    const { page } = await show(new FakeFeed(systemClock, { devices: 40 }));
    await page.locator('#device-search').fill('sensor-3');
    await expectText(page, '#device-count', /^11 devices found$/);
    await page.locator('#device-search').press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await expectText(page, '#chart-title', /^sensor-30$/);
    await expectText(page, '[role=option][aria-selected=true] .device-name', /^sensor-30$/);
    assert.match(page.url(), /device=sensor-30/);
    await page.locator('#device-search').fill('no such thing');
    await expectText(page, '#device-count', /No device matches/);
  });

  it('shows any window size and range, zooms, and links to the very rows', async () => {
    const { page, complaints } = await show(new FakeFeed(systemClock, { devices: 3 }));
    await page.locator('#chart canvas').waitFor();
    await page.getByLabel('1m', { exact: true }).check({ force: true });
    await expectText(page, '#chart-sub', /windows of 1m/);
    await page.getByLabel('6 h', { exact: true }).check({ force: true });
    await page.locator('#chart-metric').selectOption('humidity');
    await expectText(page, '#chart-sub', /humidity on environment/);
    const link = (await page.locator('#rows-link').getAttribute('href'))!;
    const rows = (await (await fetch(new URL(link, page.url()))).text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.ok(
      rows.length > 300 &&
        rows.every((row) => row.metric === 'humidity' && row.window === '1m' && row.tags.device === 'sensor-1'),
    );
    await page.locator('#chart').focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    const pointed = await page.locator('#readout').textContent();
    await page.keyboard.press('ArrowLeft');
    assert.notEqual(await page.locator('#readout').textContent(), pointed);
    const box = (await page.locator('#chart .u-over').boundingBox())!;
    await page.mouse.move(box.x + 100, box.y + 50);
    await page.mouse.down();
    await page.mouse.move(box.x + 260, box.y + 60, { steps: 5 });
    await page.mouse.up();
    await page.locator('#zoom-reset.primary').waitFor();
    await photograph(page, 'page-zoomed', false);
    await page.keyboard.press('0');
    await page.locator('#zoom-reset:not(.primary)').waitFor();
    assert.deepEqual(complaints, []);
  });

  it('says how many readings of a device are missing, in so many gaps', async () => {
    const feed = new FakeFeed(systemClock, { devices: 1 });
    const reading = (key: string, sequence: number) =>
      feed.board.accepted(
        { stream: 'environment', key, timeMs: systemClock.nowMs(), tags: { device: key }, values: {}, sequence },
        systemClock.nowMs(),
      );
    for (const [key, sequences] of [
      ['one', [1, 3]],
      ['two', [1, 3, 6]],
      ['filled', [1, 4, 6, 2, 3]],
      ['whole', [1, 2, 3]],
    ] as const) {
      for (const sequence of sequences) reading(key, sequence);
    }
    const { page } = await show(feed);
    for (const [key, words] of [
      ['one', /Missing1 in 1 gapClock/],
      ['two', /Missing3 in 2 gapsClock/],
      ['filled', /Missing1Clock/],
      ['whole', /MissingnoneClock/],
    ] as const) {
      await page.getByRole('option', { name: key }).click();
      await expectText(page, '#device-facts', words);
    }
  });

  it('draws a stream that no device sends here, and how many different values its windows had', async () => {
    const feed = new FakeFeed(systemClock, { devices: 2 });
    Object.assign(feed.streams.clicks!, { distinct: ['userid'] });
    const board = Object.assign(new Board(feed.streams), { accepted: () => {} });
    const { page, complaints } = await show(Object.assign(feed, { board }));
    await page.getByRole('button', { name: 'environment' }).click();
    await expectText(page, '#chart-title', /^environment$/);
    await expectText(page, '#chart-series', /sensor-1.*sensor-2/s);
    await page.locator('#chart canvas').waitFor();
    await page.getByRole('button', { name: 'clicks' }).click();
    await expectText(page, '#chart-title', /^clicks$/);
    await page.locator('#chart-metric').selectOption('distinct_userid');
    await expectText(page, '#legend', /^distinct_userid in a closed window/);
    await expectText(page, '#readout', /Count/);
    assert.ok(await page.locator('#chart-percentiles').isHidden(), 'a count has no percentiles');
    assert.deepEqual(complaints, []);
  });

  it('asks again for its rows when the gateway was sending as many answers as it does at once', async () => {
    const { page } = await show(new FakeFeed(systemClock, { devices: 1 }));
    await page.locator('#chart canvas').waitFor();
    const busy = { error: { code: 'BUSY', message: 'ask again when one has ended' } };
    let asked = 0;
    await page.route(/api\/v1\/rows/, (route) =>
      asked++ === 0 ? route.fulfill({ status: 429, json: busy }) : route.continue(),
    );
    const answered = page.waitForResponse((response) => /api\/v1\/rows/.test(response.url()) && response.ok());
    await page.locator('#chart-metric').selectOption('humidity');
    await answered;
    assert.equal(asked, 2);
  });

  it('counts events where a stream has no metrics', async () => {
    const { page, complaints } = await show(new FakeFeed(systemClock, { devices: 1 }));
    await page.getByRole('button', { name: 'clicks' }).click();
    await expectText(page, '#device-count', /^3 devices found$/);
    await page.locator('.device').filter({ hasText: '/home' }).click();
    await expectText(page, '#chart-sub', /events on clicks/);
    await expectText(page, '#legend', /events in a closed window/);
    assert.ok((await accentPixels(page)) > 200);
    assert.deepEqual(complaints, []);
  });

  it('is dark where the system is, and as the person chooses, and remembers it', async () => {
    const { page, complaints } = await show(new FakeFeed(systemClock, { devices: 12 }), { dark: true });
    assert.ok((await brightness(page)) < 40);
    await expectText(page, '#chart-title', /sensor-1/);
    await page.locator('#chart canvas').waitFor();
    await photograph(page, 'page-dark');
    await page.locator('#theme').click();
    await expectText(page, '#theme', /^Light$/);
    assert.ok((await brightness(page)) > 220);
    await page.reload();
    await expectText(page, '#theme', /^Light$/);
    assert.ok((await brightness(page)) > 220);
    assert.deepEqual(complaints, []);
  });

  it('says that the gateway is gone and goes on by itself when it is back', async () => {
    const feed = new FakeFeed(systemClock, { devices: 5 });
    const { page } = await show(feed);
    await expectText(page, '#verdict-title', /All is well/);
    const port = Number(new URL(live.view().address).port);
    await live.view().close();
    await page.locator('#connection[data-state="lost"]').waitFor();
    await expectText(page, '#verdict-title', /No connection/);
    await photograph(page, 'page-lost', false);
    const again = new FakeFeed(systemClock, { devices: 7 });
    live.flow(again);
    await live.serve(again, port);
    await page.locator('#connection[data-state="live"]').waitFor();
    await expectText(page, '#verdict-title', /All is well/);
    await expectText(page, '#device-count', /^10 devices$/);
  });

  it('scrolls through ten thousand devices with a handful of elements', async () => {
    const feed = new FakeFeed(systemClock, { devices: 10_000 });
    const { page, complaints } = await show(feed);
    await expectText(page, '#device-count', /^10,003 devices$/);
    await page.locator('#device-list').focus();
    await page.keyboard.press('End');
    await expectText(page, '[role=option][aria-posinset="10003"] .device-name', /^sensor-10000$/);
    await page.evaluate(`document.querySelector('#device-list').scrollTop = 5000 * 56`);
    await page.locator('[role=option][aria-posinset="5001"] .device-name', { hasText: 'sensor-' }).waitFor();
    assert.ok((await page.locator('.device').count()) < 60);
    const longest = await page.evaluate(`new Promise((resolve) => {
      const list = document.querySelector('#device-list');
      let longest = 0, last = performance.now(), frames = 0;
      const frame = (now) => {
        longest = Math.max(longest, now - last);
        last = now;
        list.scrollTop += 400;
        if (++frames < 60) requestAnimationFrame(frame); else resolve(longest);
      };
      requestAnimationFrame(frame);
    })`);
    assert.ok(Number(longest) < 1_500, `a frame took ${longest} ms`);
    assert.deepEqual(complaints, []);
  });

  it('fits a phone without scrolling sideways', async () => {
    const feed = new FakeFeed(systemClock, {
      devices: 12,
      names: ['a-device-with-a-very-long-name-that-no-phone-could-ever-show-in-one-line'],
    });
    const { page, complaints } = await show(feed, { width: 360, height: 740, phone: true });
    await expectText(page, '#chart-title', /a-device/);
    await page.locator('#chart canvas').waitFor();
    assert.ok(Number(await page.evaluate('document.documentElement.scrollWidth')) <= 360);
    await photograph(page, 'page-phone');
    assert.deepEqual(complaints, []);
  });

  it('has what belongs together in one line at 1200 px: the numbers of all stages, and the controls of the chart', async () => {
    const { page } = await show(new FakeFeed(systemClock, { devices: 3 }), { width: 1_200, height: 860 });
    await page.locator('#chart canvas').waitFor();
    await expectText(page, '#stage-store .queue-depth', /of/);
    const tops = async (selector: string): Promise<number[]> =>
      page.evaluate(
        `[...new Set(Array.from(document.querySelectorAll('${selector}'), (e) => Math.round(e.getBoundingClientRect().top)))]`,
      );
    for (const part of ['.stage-rate', '.facts', '.queue', '.counters']) {
      assert.equal((await tops(`.stage ${part}`)).length, 1, part);
    }
    assert.equal((await tops('#chart-window .segment, #chart-range .segment')).length, 1);
  });

  it('says in words what is wrong and what to do', async () => {
    const feed = new FakeFeed(systemClock, { devices: 6 });
    feed.setPart({
      kind: 'kafka',
      name: 'kafka',
      stage: 'journal',
      state: 'away',
      failure: { code: 'KAFKA_UNREACHABLE', message: 'ECONNREFUSED' },
    });
    const { page } = await show(feed);
    await expectText(page, '#verdict-title', /one thing needs attention/);
    await expectText(page, '#problems', /Kafka cannot be reached.*Nothing is lost.*What to do: Start Kafka/s);
    feed.setPart({ kind: 'spool', name: 'spool', stage: 'journal', state: 'full' });
    await page.locator('#verdict[data-verdict="broken"]').waitFor();
    await expectText(page, '#problems', /devices are not acknowledged/);
    await page.locator('#stage-journal[data-verdict="broken"]').waitFor();
    await photograph(page, 'page-trouble');
    for (const part of feed.parts.values()) feed.setPart({ ...part, state: 'ok' });
    await page.locator('#verdict[data-verdict="healthy"]').waitFor();
  });

  it('sends a dead letter again only with the token', async () => {
    const feed = new FakeFeed(systemClock, { devices: 1 });
    feed.refuse(
      'malformed',
      'not JSON: unexpected end',
      'sensors/berlin/x/environment',
      'x',
      '{"ts":',
      systemClock.nowMs(),
    );
    const { page } = await show(feed, { token: 'secret' });
    await page.locator('.letter summary').first().click();
    await expectText(page, '.payload', /^\{"ts":$/);
    const again = page.getByRole('button', { name: 'Send again' }).first();
    await again.click();
    await page.locator('#token').fill('wrong');
    await page.locator('#token-use').click();
    await expectText(page, '.letter-result', /not the configured/);
    await again.click();
    await page.locator('#token').fill('secret');
    await page.locator('#token').press('Enter');
    await expectText(page, '.letter-result', /Accepted: 1 reading/);
    assert.equal(await page.locator('.letter-buttons button').isDisabled(), true, 'once');
    await page.reload();
    await expectText(page, '.letter summary .flag', /, sent again$/);
    await page.locator('.letter summary').first().click();
    await expectText(page, '.letter-result', /^Sent again .*, and accepted\.$/);
    assert.equal(await page.locator('.letter-buttons button').isDisabled(), true, 'also on another page');
  });

  it('shows a read-only gateway as such', async () => {
    const feed = new FakeFeed(systemClock, { devices: 1 });
    feed.refuse('not-utf8', 'not UTF-8', 'x', 'x', Buffer.from([0xff, 0x41]), systemClock.nowMs());
    const { page } = await show(feed);
    await page.locator('.letter summary').first().click();
    await expectText(page, '.payload', /ff 41 .*\.A/);
    await expectText(page, '.letter-result', /no http\.token/);
    assert.equal(await page.locator('.letter-buttons button').isDisabled(), true);
  });

  it('names everything that can be operated, for those who do not see it', async () => {
    const { page } = await show(new FakeFeed(systemClock, { devices: 3 }));
    await page.locator('#chart canvas').waitFor();
    const nameless =
      await page.evaluate(`[...document.querySelectorAll('button, input, select, a, [tabindex="0"], summary')]
      .filter((element) => !(element.labels?.length || element.textContent.trim() || element.getAttribute('aria-label')))
      .map((element) => element.outerHTML.slice(0, 120))`);
    assert.deepEqual(nameless, []);
  });
});

/** Pixels of the chart in (about) the accent colour. */
async function accentPixels(page: Page): Promise<number> {
  return Number(
    await page.evaluate(`(() => {
      const canvas = document.querySelector('#chart canvas');
      const probe = document.createElement('canvas').getContext('2d');
      probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--accent');
      probe.fillRect(0, 0, 1, 1);
      const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let count = 0;
      for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] > 200 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 30) count++;
      }
      return count;
    })()`),
  );
}

async function brightness(page: Page): Promise<number> {
  const colour = String(await page.evaluate('getComputedStyle(document.documentElement).backgroundColor'));
  const [r = 0, g = 0, b = 0] = colour.match(/\d+/g)!.map(Number);
  return (r + g + b) / 3;
}
