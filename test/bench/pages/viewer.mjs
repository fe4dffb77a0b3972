// Open pages, without a browser's drawing: what src/view/page asks for, when it asks for it. `node viewer.mjs URL PAGES` prints
// "open" when each has seen an event, and at its end, one JSON object: events, bytes and answers of all pages together.
import { setTimeout as sleep } from 'node:timers/promises';

const [, , url, pages] = process.argv;
/** As in devices.js, facts.js and main.js of the page. */
const DEVICES_MS = 3_000;
const FACTS_MS = 2_000;
const STREAMS_MS = 3_000;
const seen = { pages: Number(pages), events: 0, bytes: 0, answers: 0 };

async function ask(path) {
  const response = await fetch(`${url}${path}`);
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
  seen.answers++;
  seen.bytes += text.length;
  return text;
}

async function again(path, everyMs) {
  for (;;) {
    await sleep(everyMs);
    await ask(path);
  }
}

/** Resolves with the first event and goes on reading. */
async function listen(path) {
  const response = await fetch(`${url}${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  const reader = response.body.getReader();
  const next = async () => {
    const { done, value } = await reader.read();
    if (done) throw new Error('the gateway has ended the stream of events');
    seen.bytes += value.length;
    // One that a chunk cuts in the middle of this word is not counted.
    seen.events += Buffer.from(value).toString('latin1').split('event: ').length - 1;
  };
  await next();
  return async () => {
    for (;;) await next();
  };
}

async function open() {
  const html = await ask('/');
  await Promise.all(Array.from(html.matchAll(/(?:href|src)="(\/page\/[^"]+)"/g), ([, path]) => ask(path)));
  await Promise.all(['/api/v1/status', '/api/v1/deadletters?limit=10'].map(ask));
  const { streams } = JSON.parse(await ask('/api/v1/streams'));
  const [stream] = streams;
  const list = `/api/v1/devices?order=name&limit=100&offset=0`;
  await ask(list);
  const { devices } = JSON.parse(await ask(`/api/v1/devices?stream=${stream.name}&limit=1`));
  const { key } = devices[0];
  const [window] = stream.windows;
  const series = new URLSearchParams({
    stream: stream.name,
    window: window.label,
    series: `${stream.key}=${key}`,
    metric: stream.metrics[0],
  });
  await ask(`/api/v1/rows?${series}&from=${Date.now() - 300_000}&limit=10000`);
  const rest = await listen(`/api/v1/live?${series}`);
  const facts = `/api/v1/devices?${new URLSearchParams({ stream: stream.name, key })}`;
  return () =>
    Promise.all([rest(), again(list, DEVICES_MS), again(facts, FACTS_MS), again('/api/v1/streams', STREAMS_MS)]);
}

process.on('SIGTERM', () => {
  console.log(JSON.stringify(seen));
  process.exit(0);
});
// One after the other, as people come: the gateway answers a few with rows at once.
const opened = [];
while (opened.length < seen.pages) opened.push(await open());
console.log('open');
await Promise.all(opened.map((go) => go()));
