// Small form controls that several parts of the page fill.
import { make } from './dom.js';

export function options(select, values, chosen, textOf) {
  const present = Array.from(select.options, ({ value }) => value);
  if (present.join('\0') !== values.join('\0') || present.length !== values.length) {
    select.replaceChildren(...values.map((value) => make('option', { value }, textOf(value))));
  }
  select.value = chosen;
}

/** A row of radio buttons that look like segments. */
export function segments(fieldset, items, chosen, picked) {
  const legend = fieldset.querySelector('legend');
  const name = fieldset.id;
  const parts = items.map(({ value, text, enabled }) => {
    const input = make('input', { type: 'radio', name, value, disabled: !enabled, onchange: () => picked(value) });
    input.checked = value === chosen;
    return make(
      'label',
      { class: 'segment', title: enabled ? '' : 'too few or too many windows' },
      input,
      make('span', {}, text),
    );
  });
  const focused = fieldset.contains(document.activeElement);
  fieldset.replaceChildren(legend, ...parts);
  if (focused) fieldset.querySelector('input:checked')?.focus();
}
