// Asking the gateway. All addresses are relative to this page; nothing else is ever asked.

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The gateway answered ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? '';
  }
}

export async function getJson(path, parameters = {}, options = {}) {
  const response = await ask(path, parameters, options);
  return response.json();
}

/** Rows: one JSON object a line. */
export async function getRows(parameters, options = {}) {
  const response = await ask('/api/v1/rows', parameters, options);
  const text = await response.text();
  return text.split('\n').filter(Boolean).map(JSON.parse);
}

export function address(path, parameters = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== '') search.set(name, value);
  }
  const query = search.toString();
  return query ? `${path}?${query}` : path;
}

async function ask(path, parameters, { signal, method = 'GET', token } = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(address(path, parameters), { signal, method, headers, cache: 'no-store' });
  if (response.ok) return response;
  throw new ApiError(response.status, await response.json().catch(() => null));
}

export function requeue(id, token) {
  return getJson(`/api/v1/deadletters/${encodeURIComponent(id)}/requeue`, {}, { method: 'POST', token });
}
