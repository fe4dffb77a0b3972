/**
 * The buckets: one per window size, `<bucket>_<label>`, each with its own retention, and `<bucket>_live` for running
 * values. Looked for at the start; made when missing and `influx.createBuckets` says so. An existing bucket is never
 * changed: a shorter retention would delete rows. A difference is said once in the log.
 */
import { HttpError, InfluxDB } from '@influxdata/influxdb-client';
import { type Bucket, BucketsAPI, OrgsAPI } from '@influxdata/influxdb-client-apis';
import type { InfluxConfig } from '../config.ts';
import { done, fail, type Outcome } from '../errors.ts';
import type { WindowSize } from '../stream.ts';
import type { Telemetry } from '../telemetry.ts';
import { windowOf } from './admit.ts';
import { classify } from './failures.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export const LIVE = 'live';
export const LIVE_RETENTION_MS = HOUR_MS;

/** InfluxDB keeps a series of one shard in blocks of 1,000 points and is at its best with few of them. */
const MAX_ROWS_PER_SHARD = 10_080;
const SHARD_GROUPS_MS = [30 * DAY_MS, 7 * DAY_MS, DAY_MS, HOUR_MS];

export function bucketName(prefix: string, label: string): string {
  return `${prefix}_${label}`;
}

/** 10 s rows: a day; 1 m: a week; longer: 30 days; never longer than the retention. */
export function shardGroupMs(window: WindowSize, retentionMs: number | undefined): number {
  const fits = SHARD_GROUPS_MS.find((ms) => ms / window.everyMs <= MAX_ROWS_PER_SHARD) ?? HOUR_MS;
  return retentionMs === undefined ? fits : Math.min(fits, retentionMs);
}

/** Makes sure that the bucket of a window label, or of `live`, is there. */
export async function ensureBucket(
  influx: InfluxDB,
  config: InfluxConfig,
  telemetry: Telemetry,
  label: string,
): Promise<Outcome> {
  const name = bucketName(config.bucket, label);
  const where = `InfluxDB at ${config.url}, bucket ${name}`;
  const window = windowOf(label);
  if (label !== LIVE && window === null) return fail('CONFIG_INVALID', `"${label}" is not the label of a window size`);
  const retentionMs = label === LIVE ? LIVE_RETENTION_MS : config.retentionMs[label];
  if (retentionMs !== undefined && retentionMs < HOUR_MS) {
    return fail(
      'CONFIG_INVALID',
      `influx.retention of ${label} is shorter than an hour, the least that InfluxDB keeps`,
    );
  }
  try {
    const found = await findBucket(influx, config.org, name);
    if (found !== null) {
      warnOfRetention(telemetry, name, found, retentionMs);
      return done;
    }
    if (!config.createBuckets) {
      return fail('STORE_NOT_FOUND', `${where}: it does not exist. Create it, or set influx.createBuckets`);
    }
    const shardMs = window === null ? HOUR_MS : shardGroupMs(window, retentionMs);
    await createBucket(influx, config.org, name, retentionMs, shardMs);
    telemetry.log.info({ bucket: name, retentionMs, shardMs }, 'bucket created');
    return done;
  } catch (thrown) {
    return classify(thrown, where);
  }
}

async function findBucket(influx: InfluxDB, org: string, name: string): Promise<Bucket | null> {
  try {
    const answer = await new BucketsAPI(influx).getBuckets({ org, name });
    return answer.buckets?.find((bucket) => bucket.name === name) ?? null;
  } catch (thrown) {
    // InfluxDB answers 404 for a name that it does not know, and for an organisation likewise.
    if (thrown instanceof HttpError && thrown.statusCode === 404 && thrown.message.includes(name)) return null;
    throw thrown;
  }
}

/** Deletes the buckets of these window labels and that of the running values, with all that is in them. */
export async function deleteBuckets(config: InfluxConfig, labels: readonly string[]): Promise<Outcome> {
  const { url, token, org } = config;
  const influx = new InfluxDB({ url, token, timeout: config.timeoutMs });
  try {
    for (const label of [...labels, LIVE]) {
      const found = await findBucket(influx, org, bucketName(config.bucket, label));
      if (found?.id !== undefined) await new BucketsAPI(influx).deleteBucketsID({ bucketID: found.id });
    }
    return done;
  } catch (thrown) {
    return classify(thrown, `InfluxDB at ${url}, buckets ${config.bucket}_*`);
  }
}

async function createBucket(
  influx: InfluxDB,
  org: string,
  name: string,
  retentionMs: number | undefined,
  shardMs: number,
): Promise<void> {
  const orgID = (await new OrgsAPI(influx).getOrgs({ org })).orgs?.[0]?.id;
  if (orgID === undefined) throw new HttpError(404, 'Not Found', `organization ${org} not found`);
  try {
    await new BucketsAPI(influx).postBuckets({
      body: {
        orgID,
        name,
        retentionRules: [
          {
            type: 'expire',
            everySeconds: Math.ceil((retentionMs ?? 0) / 1_000),
            shardGroupDurationSeconds: Math.ceil(shardMs / 1_000),
          },
        ],
      },
    });
  } catch (thrown) {
    // Another process was quicker.
    if ((await findBucket(influx, org, name)) === null) throw thrown;
  }
}

function warnOfRetention(telemetry: Telemetry, name: string, bucket: Bucket, wantedMs: number | undefined): void {
  const hasMs = (bucket.retentionRules[0]?.everySeconds ?? 0) * 1_000;
  if (hasMs !== (wantedMs ?? 0)) {
    telemetry.log.warn(
      { bucket: name, retentionMs: hasMs, configuredMs: wantedMs ?? 0 },
      'the bucket keeps its rows for another time than configured; it is left as it is (0 = for ever)',
    );
  }
}
