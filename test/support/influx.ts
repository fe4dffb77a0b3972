/** Small things that tests ask of a real InfluxDB beside the store. */
import type { InfluxServer } from './servers.ts';

/** Deletes every bucket whose name begins with `<prefix>_`. */
export async function removeBuckets(server: InfluxServer, prefix: string): Promise<void> {
  const headers = { authorization: `Token ${server.token}` };
  const listed = await fetch(`${server.url}/api/v2/buckets?org=${server.org}&limit=100`, { headers });
  const { buckets } = (await listed.json()) as { buckets: { id: string; name: string }[] };
  for (const { id, name } of buckets) {
    if (name.startsWith(`${prefix}_`)) await fetch(`${server.url}/api/v2/buckets/${id}`, { method: 'DELETE', headers });
  }
}
