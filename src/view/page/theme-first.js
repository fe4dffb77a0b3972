// Before the first paint, so that the page does not flash in the wrong colours. Loaded as a classic script for that.
try {
  const chosen = localStorage.getItem('millrace-theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is switched off: the colours follow the system.
}
