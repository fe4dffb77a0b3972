// Joins the parts of the page with the gateway's events.
import { getJson } from './api.js';
import { loadDeadLetters, showReasons, startDeadLetters } from './deadletters.js';
import { startDevices } from './devices.js';
import { byId, plain, setText, WHOLE_NAME } from './dom.js';
import { startExplore } from './explore.js';
import { prepareFlow, seedHistory, showFlow } from './flow.js';
import { startLive } from './live.js';
import { showStreams } from './streams.js';
import { startTheme } from './theme.js';
import { showLost, showVerdict, startVerdict } from './verdict.js';
import { showWelcome } from './welcome.js';

const STREAMS_MS = 3_000;
/** A flood of dead letters must not make the page read the log every second. */
const LETTERS_MS = 4_000;
const CONNECTION = { connecting: 'Connecting', live: 'Live', lost: 'Reconnecting' };

let alive = false;
let status = null;
let letters = null;
let lettersAtMs = 0;
let version = null;

const explore = startExplore({ watch: (parameters) => live.watch(parameters) });
const devices = startDevices({ chosen: (device) => explore.choose(device) });
startTheme(byId('theme'), () => explore.restyle());
startDeadLetters();
prepareFlow();
startVerdict(({ order, section }) => {
  if (order) devices.order(order);
  byId(section ?? 'explore').scrollIntoView({ block: 'start' });
});

const live = startLive({
  status: showStatus,
  devices: ({ devices: changed }) => devices.merge(changed, status?.nowMs ?? Date.now()),
  running: (data) => explore.running(data),
  rows: (data) => explore.rows(data),
  state(state) {
    alive = state === 'live';
    const connection = byId('connection');
    connection.dataset.state = state;
    setText(connection, CONNECTION[state]);
    document.body.classList.toggle('stale', !alive);
    if (!alive) {
      showLost();
      if (status) showFlow(status, false);
    }
  },
  resync() {
    loadHistory();
    loadStreams();
    loadDeadLetters();
    explore.load();
    devices.reload();
  },
});

/** Without a choice in the address a device is shown all the same, so that nobody meets an empty chart. */
async function chooseFirst(streams) {
  const withDevices = streams.filter((stream) => stream.devices > 0);
  const stream = withDevices.find(({ metrics }) => metrics.length > 0) ?? withDevices[0];
  if (!stream) return;
  const parameters = { stream: stream.name, limit: 1 };
  const answer = await getJson('/api/v1/devices', parameters, { signal: AbortSignal.timeout(10_000) });
  const device = answer.devices[0];
  if (!device || explore.chosen()) return;
  explore.choose(device);
  devices.select(device);
}

function showStatus(next) {
  // A gateway of another version has another page.
  if (version !== null && next.version !== version) return location.reload();
  version = next.version;
  status = next;
  explore.tick(next.nowMs);
  devices.tick(next.nowMs);
  showVerdict(next);
  showFlow(next, alive);
  const gateway = plain(next.gateway, 60);
  setText(byId('gateway'), gateway);
  byId('gateway').title = plain(next.gateway, WHOLE_NAME);
  document.title = `${next.verdict === 'healthy' ? '' : '● '}${gateway} – Millrace`;
  const store = next.store === 'influx' ? 'InfluxDB' : 'the embedded store';
  const log = next.log === 'kafka' ? 'Kafka' : 'the spool';
  setText(
    byId('about'),
    `Millrace ${next.version}, role ${next.role}. The log is ${log}, rows are kept in ${store}. Times are this browser’s; windows begin at whole multiples of UTC.`,
  );
  const inspect = next.stages.find(({ name }) => name === 'inspect');
  const { value: count, by } = inspect.counters.find(({ name }) => name === 'dead_letters');
  showReasons(by);
  if (letters !== null && count !== letters && next.nowMs - lettersAtMs > LETTERS_MS) {
    loadDeadLetters();
    lettersAtMs = next.nowMs;
    letters = count;
  }
  letters ??= count;
}

async function loadStreams() {
  try {
    const { streams } = await getJson('/api/v1/streams', {}, { signal: AbortSignal.timeout(10_000) });
    showStreams(streams, (stream) => {
      devices.chooseStream(stream.name);
      if (stream.devices === 0) explore.chooseStream(stream);
      byId('explore').scrollIntoView({ block: 'start' });
      byId('device-list').focus({ preventScroll: true });
    });
    if (status) showWelcome(status.listeners, streams);
    devices.setStreams(streams.map(({ name }) => name));
    const fromAddress = explore.setStreams(streams);
    if (fromAddress) devices.select(fromAddress);
    if (!explore.chosen()) await chooseFirst(streams);
  } catch {
    // The connection's state is shown at the top; the next look asks again.
  }
}

async function loadHistory() {
  try {
    const { history } = await getJson('/api/v1/status', {}, { signal: AbortSignal.timeout(10_000) });
    seedHistory(history);
  } catch {
    // The small curves begin empty then.
  }
}

setInterval(() => {
  if (alive && !document.hidden) loadStreams();
}, STREAMS_MS);
loadHistory();
loadStreams();
loadDeadLetters();
