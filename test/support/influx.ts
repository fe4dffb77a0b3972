/** Small things that tests ask of a real InfluxDB beside the store. */
import type { InfluxServer } from './servers.ts';

export interface ListedBucket {
  readonly id: string;
  readonly name: string;
  readonly retentionRules: readonly { readonly everySeconds: number; readonly shardGroupDurationSeconds: number }[];
}

/** The buckets whose names begin with `<prefix>_`. */
export async function listBuckets(server: InfluxServer, prefix: string): Promise<ListedBucket[]> {
  const headers = { authorization: `Token ${server.token}` };
  const answer = await fetch(`${server.url}/api/v2/buckets?org=${server.org}&limit=100`, { headers });
  const { buckets } = (await answer.json()) as { buckets: ListedBucket[] };
  return buckets.filter(({ name }) => name.startsWith(`${prefix}_`));
}

/** Deletes every bucket whose name begins with `<prefix>_`. */
export async function removeBuckets(server: InfluxServer, prefix: string): Promise<void> {
  const headers = { authorization: `Token ${server.token}` };
  for (const { id } of await listBuckets(server, prefix)) {
    await fetch(`${server.url}/api/v2/buckets/${id}`, { method: 'DELETE', headers });
  }
}
