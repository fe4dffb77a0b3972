// Light, dark, or what the system says; the choice is remembered in this browser.

const ORDER = ['auto', 'light', 'dark'];
const WORDS = { auto: 'Auto', light: 'Light', dark: 'Dark' };

/** `changed` is called whenever the colours are different from before. */
export function startTheme(button, changed) {
  let chosen = document.documentElement.dataset.theme ?? 'auto';
  const show = () => {
    button.textContent = WORDS[chosen];
    button.setAttribute('aria-label', `Colours: ${chosen === 'auto' ? 'automatic' : chosen}. Press to change.`);
  };
  button.addEventListener('click', () => {
    chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
    if (chosen === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    remember(chosen);
    show();
    changed();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  show();
}

function remember(chosen) {
  try {
    if (chosen === 'auto') localStorage.removeItem('millrace-theme');
    else localStorage.setItem('millrace-theme', chosen);
  } catch {
    // Storage is switched off: the choice lasts until the page is closed.
  }
}
