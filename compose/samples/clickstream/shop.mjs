// A page whose clicks go to the gateway: over MQTT in WebSocket, or by HTTP POST. Serves itself and the MQTT client that
// comes with Millrace: `node compose/samples/clickstream/shop.mjs [--port 8085] [--mqtt ws://...] [--ingest http://...]`.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const text = (value) => ({ type: 'string', default: value });
const { values } = parseArgs({
  options: {
    port: text('8085'),
    mqtt: text('ws://127.0.0.1:8083'),
    ingest: text('http://127.0.0.1:8084/ingest/'),
  },
});

const { resolve } = createRequire(import.meta.url);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const settings = JSON.stringify({ mqtt: values.mqtt, ingest: values.ingest }).replaceAll('<', '\\u003c');
const page = readFileSync(here('shop.html'), 'utf8').replace('/* settings */ {}', () => settings);
const files = {
  '/': ['text/html; charset=utf-8', page],
  '/mqtt.js': ['text/javascript', readFileSync(resolve('mqtt/dist/mqtt.min'))],
};

const server = createServer((request, response) => {
  const [type, body] = files[new URL(request.url ?? '/', 'http://x').pathname] ?? [];
  if (!type) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': type, 'x-content-type-options': 'nosniff' }).end(body);
});
server.listen(Number(values.port), '127.0.0.1', () => {
  console.log(`The shop is at http://127.0.0.1:${server.address().port}`);
});
