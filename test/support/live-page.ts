/** The live page of a made-up feed in a real browser, for suites: `const live = useLivePage();` inside a describe. */
import assert from 'node:assert/strict';
import type { Browser, Page } from 'playwright-core';
import { systemClock } from '../../src/clock.ts';
import { silentTelemetry } from '../../src/telemetry.ts';
import { startView, type View } from '../../src/view/server.ts';
import { needChromium, startBrowser, type Visit, type VisitOptions, visit } from './browser.ts';
import type { FakeFeed } from './fake-feed.ts';

export interface LivePage {
  /** The view that is open now. */
  view(): View;
  /** Starts a view; it is closed after the test. */
  serve(feed: FakeFeed, port?: number, token?: string | null): Promise<string>;
  /** Lets the feed go on, and no other. */
  flow(feed: FakeFeed): void;
  show(feed: FakeFeed, options?: VisitOptions & { path?: string; token?: string }): Promise<Visit>;
}

/** One browser for the suite; what a test opened is closed after it. */
export function useLivePage(): LivePage {
  let browser: Browser | undefined;
  let view: View | undefined;
  let visited: Visit | undefined;
  let timer: NodeJS.Timeout | undefined;

  before(async function () {
    needChromium(this);
    browser = await startBrowser();
  });

  after(() => browser?.close());

  afterEach(async () => {
    clearInterval(timer);
    await visited?.close();
    await view?.close();
    visited = undefined;
    view = undefined;
  });

  async function serve(feed: FakeFeed, port = 0, token: string | null = null): Promise<string> {
    const http = { host: '127.0.0.1', port, token };
    const started = await startView({ http, feed, telemetry: silentTelemetry(), clock: systemClock });
    assert.ok(started.ok);
    view = started.value;
    return started.value.address;
  }

  function flow(feed: FakeFeed): void {
    clearInterval(timer);
    timer = setInterval(() => feed.step(), 200);
  }

  return {
    view: () => view!,
    serve,
    flow,
    async show(feed, options = {}) {
      const address = await serve(feed, 0, options.token ?? null);
      flow(feed);
      visited = await visit(browser!, `${address}/${options.path ?? ''}`, options);
      await visited.page.locator('#connection[data-state="live"]').waitFor();
      return visited;
    },
  };
}

export async function expectText(page: Page, selector: string, pattern: RegExp): Promise<void> {
  const locator = page.locator(selector).first();
  const deadline = performance.now() + 15_000;
  let text = '';
  while (performance.now() < deadline) {
    text = (await locator.textContent({ timeout: 15_000 })) ?? '';
    if (pattern.test(text)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.match(text, pattern, `${selector}: ${text}`);
}
