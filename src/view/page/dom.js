// Building the page. Text from devices only ever becomes text nodes and attribute values, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. `on…` attributes take functions. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

// Characters that show nothing, or change the direction of what stands around them. Joiners stay: emoji and scripts need them.
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;
const LINES = /[\n\t]/;
const PILED_MARKS = /(\p{M}{3})\p{M}+/gu;

/** For `plain` where a person asks for the whole of it: longer than any name that MQTT or HTTP can carry in a topic. */
export const WHOLE_NAME = 70_000;

/** Text that a device made up, for one line: not endless, and with nothing in it that hides, reorders or overflows. */
export function plain(text, most = 120) {
  const cut = text.length > most ? `${text.slice(0, most).replace(/[\ud800-\udbff]$/, '')}…` : text;
  return cut.replace(PILED_MARKS, '$1').replace(HIDDEN, named);
}

/** The same for many lines: a payload, whole. */
export function plainLines(text) {
  return text.replace(HIDDEN, (char) => (LINES.test(char) ? char : named(char)));
}

/** One of several texts in a line: its writing direction ends with it. */
export function isolated(text, most) {
  return `\u2068${plain(text, most)}\u2069`;
}

function named(char) {
  return `⟨${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`;
}

/** Sets text only when it differs: an unchanged page costs no layout, and a selection stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const keyed = new WeakMap();

/** Makes the children of `parent` match `items`: one element per key, made once, updated in place, in order. */
export function reconcile(parent, items, keyOf, create, update) {
  if (!keyed.has(parent)) keyed.set(parent, new Map());
  const kept = keyed.get(parent);
  const wanted = new Set();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    wanted.add(key);
    let element = kept.get(key);
    if (!element) {
      element = create(item);
      kept.set(key, element);
    }
    update(element, item);
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  for (const [key, element] of kept) {
    if (wanted.has(key)) continue;
    element.remove();
    kept.delete(key);
  }
}
