// The list of devices: search, and as many rows as fit on the screen, however many devices there are. The list is asked
// for in pages as it is scrolled; the page in sight is asked for again every few seconds, and live changes are merged in.
import { getJson } from './api.js';
import { byId, isolated, make, plain, setText, WHOLE_NAME } from './dom.js';
import { ago, compact, duration, measure, whole } from './format.js';

const PAGE = 100;
const ROW_HEIGHT = 56;
const SPARE_ROWS = 6;
const REFRESH_MS = 3_000;
const SEARCH_AFTER_MS = 150;
const CHOOSE_AFTER_MS = 120;

/** `chosen(device)` when a person picks one. */
export function startDevices({ chosen }) {
  const list = byId('device-list');
  const space = byId('device-space');
  const search = byId('device-search');
  const streamField = byId('device-stream');
  const orderField = byId('device-order');
  let pages = new Map();
  let asking = new Map();
  let total = 0;
  let generation = 0;
  let active = -1;
  let selected = null;
  let nowMs = 0;
  let lastFrom = 0;
  let choosing = null;
  let searching = null;
  const elements = [];

  const at = (index) => pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  const idOf = (device) => JSON.stringify([device.stream, device.key]);

  async function load(page, again) {
    if (asking.has(page) || (!again && pages.has(page))) return;
    const mine = generation;
    const signal = AbortSignal.timeout(10_000);
    asking.set(page, mine);
    try {
      const parameters = {
        search: search.value.trim(),
        stream: streamField.value,
        order: orderField.value,
        limit: PAGE,
        offset: page * PAGE,
      };
      const answer = await getJson('/api/v1/devices', parameters, { signal });
      if (mine !== generation) return;
      pages.set(page, answer.devices);
      total = answer.total;
      draw();
    } catch {
      // The connection's state is shown at the top; the next look asks again.
    } finally {
      if (asking.get(page) === mine) asking.delete(page);
    }
  }

  function visible() {
    const from = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
    const to = Math.min(total, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + SPARE_ROWS);
    return { from, to };
  }

  function refresh(again) {
    const { from, to } = visible();
    const last = Math.max(from, to - 1);
    for (let page = Math.floor(from / PAGE); page <= Math.floor(last / PAGE); page++) load(page, again);
    // The next page on the way, before it is in sight.
    const ahead = Math.floor((from + (from < lastFrom ? -PAGE : PAGE)) / PAGE);
    if (from !== lastFrom && ahead >= 0 && ahead * PAGE < total) load(ahead, false);
    lastFrom = from;
    for (const page of pages.keys()) {
      if (Math.abs(page - Math.floor(from / PAGE)) > 5) pages.delete(page);
    }
  }

  function draw() {
    space.style.height = `${total * ROW_HEIGHT}px`;
    const { from, to } = visible();
    while (elements.length < to - from) {
      const element = createRow();
      elements.push(element);
      space.append(element);
    }
    for (const [i, element] of elements.entries()) {
      const index = from + i;
      element.hidden = index >= to;
      if (!element.hidden) fill(element, index);
      else for (const name of ['id', 'aria-posinset']) element.removeAttribute(name);
    }
    const found = search.value.trim() !== '' || streamField.value !== '';
    setText(
      byId('device-count'),
      total === 0 && found
        ? search.value.trim() === ''
          ? 'No device sends this stream to this gateway.'
          : 'No device matches.'
        : total === 0
          ? 'No device yet'
          : `${whole(total)} ${total === 1 ? 'device' : 'devices'}${found ? ' found' : ''}`,
    );
    byId('device-empty').hidden = total > 0 || found;
    if (active >= 0 && active < total) list.setAttribute('aria-activedescendant', `device-${active}`);
    else list.removeAttribute('aria-activedescendant');
  }

  function fill(element, index) {
    const device = at(index);
    element.id = `device-${index}`;
    element.style.transform = `translateY(${index * ROW_HEIGHT}px)`;
    element.millraceIndex = index;
    element.setAttribute('aria-setsize', total);
    element.setAttribute('aria-posinset', index + 1);
    element.classList.toggle('active', index === active);
    const isSelected = device !== undefined && idOf(device) === selected;
    element.setAttribute('aria-selected', String(isSelected));
    fillRow(element, device, nowMs);
  }

  function reload() {
    generation++;
    pages = new Map();
    asking = new Map();
    active = -1;
    list.scrollTop = 0;
    load(0, true);
  }

  function choose(index, atOnce) {
    const device = at(index);
    active = index;
    if (!device) return draw();
    selected = idOf(device);
    draw();
    clearTimeout(choosing);
    choosing = setTimeout(() => chosen(device), atOnce ? 0 : CHOOSE_AFTER_MS);
  }

  function move(index) {
    if (total === 0) return;
    const target = Math.max(0, Math.min(total - 1, index));
    const top = target * ROW_HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
    refresh(false);
    choose(target, false);
  }

  list.addEventListener('scroll', () => {
    requestAnimationFrame(() => {
      refresh(false);
      draw();
    });
  });
  list.addEventListener('click', (event) => {
    const row = event.target.closest('.device');
    if (row) choose(row.millraceIndex, true);
  });
  list.addEventListener('keydown', (event) => {
    const onePage = Math.max(1, Math.floor(list.clientHeight / ROW_HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: onePage, PageUp: -onePage };
    if (event.key in steps) move(active + steps[event.key]);
    else if (event.key === 'Home') move(0);
    else if (event.key === 'End') move(total - 1);
    else if (event.key === 'Enter' || event.key === ' ') choose(active, true);
    else return;
    event.preventDefault();
  });
  search.addEventListener('input', () => {
    clearTimeout(searching);
    searching = setTimeout(reload, SEARCH_AFTER_MS);
  });
  search.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' || total === 0) return;
    event.preventDefault();
    list.focus();
    move(0);
  });
  streamField.addEventListener('change', reload);
  orderField.addEventListener('change', reload);
  new ResizeObserver(() => {
    refresh(false);
    draw();
  }).observe(list);
  setInterval(() => {
    if (!document.hidden) refresh(true);
  }, REFRESH_MS);
  reload();

  return {
    setStreams(names) {
      const value = streamField.value;
      streamField.replaceChildren(
        make('option', { value: '' }, 'all streams'),
        ...names.map((name) => make('option', { value: name }, name)),
      );
      streamField.value = names.includes(value) ? value : '';
    },
    chooseStream(name) {
      streamField.value = name;
      reload();
    },
    select(device) {
      selected = idOf(device);
      draw();
    },
    /** Live changes: only of devices that are in memory here. */
    merge(changed, atMs) {
      nowMs = atMs;
      const byIdentity = new Map(changed.map((device) => [idOf(device), device]));
      for (const devices of pages.values()) {
        for (const [i, device] of devices.entries()) devices[i] = byIdentity.get(idOf(device)) ?? device;
      }
      draw();
    },
    tick(atMs) {
      nowMs = atMs;
      if (total === 0) refresh(true);
      draw();
    },
    reload,
    order(value) {
      orderField.value = value;
      search.value = '';
      reload();
    },
  };
}

function createRow() {
  return make(
    'div',
    { class: 'device', role: 'option' },
    make(
      'div',
      { class: 'device-line' },
      make('span', { class: 'device-name' }),
      make('span', { class: 'device-flags' }),
      make('span', { class: 'device-seen' }),
    ),
    make(
      'div',
      { class: 'device-line second' },
      make('span', { class: 'device-values' }),
      make('span', { class: 'device-count' }),
    ),
  );
}

function fillRow(row, device, nowMs) {
  const [first, second] = row.children;
  const [name, flags, seen] = first.children;
  const [values, count] = second.children;
  if (!device) {
    for (const element of [name, flags, seen, values, count]) setText(element, '');
    setText(name, '…');
    return;
  }
  setText(name, plain(device.key));
  const others = Object.entries(device.tags).filter(([, value]) => value !== device.key);
  row.title = [
    plain(device.key, WHOLE_NAME),
    ...others.map(([tag, value]) => `${tag}: ${plain(value, WHOLE_NAME)}`),
    device.lastRefusal ? `last refusal: ${plain(device.lastRefusal.reason, 300)}` : '',
  ]
    .filter(Boolean)
    .join('\n');
  setText(
    seen,
    device.receivedMs === null ? 'never accepted' : ago(device.receivedMs, Math.max(nowMs, device.receivedMs)),
  );
  const shown = Object.entries(device.values).map(([metric, value]) => `${metric} ${measure(value)}`);
  setText(
    values,
    shown.length > 0
      ? shown.join('  ')
      : `${device.stream}${others.length > 0 ? ` · ${others.map(([, value]) => isolated(value)).join(' · ')}` : ''}`,
  );
  setText(count, `${compact(device.readings)} ${device.readings === 1 ? 'reading' : 'readings'}`);
  showFlags(flags, device);
}

function showFlags(element, device) {
  const flags = [];
  if (device.silent) flags.push(['silent', 'warning']);
  if (device.refusals > 0) flags.push([`${compact(device.refusals)} refused`, 'warning']);
  if (device.missing > 0) flags.push([`${compact(device.missing)} missing`, 'note']);
  if (Math.abs(device.skewMs) > 30_000)
    flags.push([`clock ${device.skewMs > 0 ? '−' : '+'}${duration(Math.abs(device.skewMs))}`, 'warning']);
  const text = flags.map(([words]) => words).join('|');
  if (element.millraceText === text) return;
  element.millraceText = text;
  element.replaceChildren(...flags.map(([words, kind]) => make('span', { class: `flag ${kind}` }, words)));
}
