/**
 * What is done to the pipeline while devices publish. Each fault waits until it is over, and answers how it is known that
 * it happened; null: it did not. The order comes from the seed, and each kind comes once before any comes twice.
 */
import { pause } from '../retry.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

export interface Fault {
  readonly name: string;
  readonly text: string;
  /** No process ends by it, so what they hold can be watched over it: a soak has these. */
  readonly gentle: boolean;
  /** A sentence when this pipeline or system cannot have it. */
  impossible(world: World): string | null;
  strike(world: World, random: Random, flood: () => void): Promise<string | null>;
}

/** Flowing again means that so many more were acknowledged. */
const FLOWING = 5;
const EVIDENCE_MS = 20_000;
const PAGES = 5;
/** More than the group waits for a member (session timeout). */
const OUTLIVES_SESSION_MS = 9_000;

const never = () => null;
const needsKafka = (world: World) => (world.isApart ? null : 'one process does everything');

/** Acknowledgements before the strike: a gateway that was idle was not struck. */
async function whileFlowing(world: World): Promise<boolean> {
  const before = await world.gateway.metric('millrace_acknowledged_total');
  if (before === null) return false;
  return world.until(EVIDENCE_MS, async () => {
    const now = await world.gateway.metric('millrace_acknowledged_total');
    return now !== null && now >= before + FLOWING;
  });
}

export const FAULTS: readonly Fault[] = [
  {
    name: 'live-pages',
    text: 'live pages opened and dropped',
    gentle: true,
    impossible: never,
    async strike(world, random) {
      const ending = new AbortController();
      const deadline = setTimeout(() => ending.abort(), EVIDENCE_MS);
      const opened = await Promise.all(
        Array.from({ length: PAGES }, () => world.gateway.get('/api/v1/live', ending.signal).catch(() => null)),
      );
      const heard = await Promise.all(
        opened.map((answer) =>
          answer?.body
            ?.getReader()
            .read()
            .catch(() => null),
        ),
      );
      await pause(random.between(0, 1_000));
      ending.abort();
      clearTimeout(deadline);
      const count = heard.filter((first) => first?.value).length;
      return count > 0 ? `${count} of them had got their first event` : null;
    },
  },
  {
    name: 'kill-gateway',
    text: 'kill -9 of the gateway',
    gentle: false,
    impossible: never,
    async strike(world, random) {
      if (!(await whileFlowing(world))) return null;
      await pause(random.between(0, 1_000));
      const ended = await world.gateway.end('SIGKILL');
      await pause(random.between(0, 500));
      await world.gateway.start();
      return ended === 'SIGKILL' ? 'the process ended by SIGKILL while it acknowledged' : null;
    },
  },
  {
    name: 'stop-gateway',
    text: 'SIGSTOP of the gateway, and SIGCONT',
    gentle: false,
    impossible: never,
    async strike(world, random) {
      if (!(await whileFlowing(world)) || !world.gateway.signal('SIGSTOP')) return null;
      const stopMs = random.between(2_000, 4_000);
      const answered = await Promise.race([
        world.gateway.get('/livez').then(
          () => true,
          () => false,
        ),
        pause(stopMs).then(() => false),
      ]);
      await pause(answered ? 0 : random.between(0, 500));
      world.gateway.signal('SIGCONT');
      return answered ? null : 'it answered nothing in between';
    },
  },
  {
    name: 'restart-gateway',
    text: 'SIGTERM of the gateway under load',
    gentle: false,
    impossible: never,
    async strike(world) {
      if (!(await whileFlowing(world))) return null;
      const ended = await world.gateway.end('SIGTERM');
      await world.gateway.start();
      if (ended !== 0) world.gateway.crashes.push(`the gateway ended with ${ended} after SIGTERM, not with 0`);
      return 'it was ended while it acknowledged';
    },
  },
  {
    name: 'cut-devices',
    text: 'connections of devices cut',
    gentle: true,
    impossible: never,
    async strike(world, random) {
      if (!(await whileFlowing(world))) return null;
      world.devices.shut();
      const cut = world.devices.cut();
      await pause(random.between(100, 1_500));
      world.devices.open();
      return cut > 0 ? `${cut} connections were reset` : null;
    },
  },
  {
    name: 'flood',
    text: 'a flood from a few devices',
    gentle: false,
    impossible: never,
    async strike(world, _random, flood) {
      const before = (await world.gateway.metric('millrace_limit_reached_total', 'rate_per_client')) ?? 0;
      flood();
      const limited = await world.until(EVIDENCE_MS, async () => {
        const now = await world.gateway.metric('millrace_limit_reached_total', 'rate_per_client');
        return (now ?? 0) > before;
      });
      return limited ? 'the rate limit was reached' : null;
    },
  },
  {
    name: 'full-disk',
    text: "the gateway's disk full",
    gentle: false,
    impossible: ({ disk }) => (disk ? null : 'this system, or this user, cannot mount a small disk'),
    async strike(world, random) {
      if (!(await whileFlowing(world)) || !world.disk) return null;
      const before = (await world.gateway.metric('millrace_spool_failures_total')) ?? 0;
      try {
        if (!world.disk.fill()) return null;
        const noticed = await world.until(EVIDENCE_MS, async () => {
          const now = await world.gateway.metric('millrace_spool_failures_total');
          return (now ?? 0) > before;
        });
        await pause(random.between(500, 1_500));
        return noticed ? 'the kernel said ENOSPC, and the gateway could not write' : null;
      } finally {
        world.disk.empty();
      }
    },
  },
  {
    name: 'kill-rollup',
    text: 'kill -9 of a rollup',
    gentle: false,
    impossible: needsKafka,
    async strike(world, random) {
      const victim = world.rollups[Math.floor(random.between(0, world.rollups.length))]!;
      await pause(random.between(0, 1_000));
      const ended = await victim.end('SIGKILL');
      await pause(random.between(0, 2_000));
      await victim.start();
      return ended === 'SIGKILL' ? `${victim.name} ended by SIGKILL` : null;
    },
  },
  {
    name: 'stop-rollup',
    text: 'SIGSTOP of a rollup for longer than its session',
    gentle: false,
    impossible: needsKafka,
    async strike(world, random) {
      const victim = world.rollups[Math.floor(random.between(0, world.rollups.length))]!;
      const others = world.rollups.filter((each) => each !== victim);
      if (!victim.signal('SIGSTOP')) return null;
      await pause(OUTLIVES_SESSION_MS);
      const owned = await Promise.all(others.map((other) => other.metrics('millrace_lag_records')));
      victim.signal('SIGCONT');
      const count = owned.reduce((sum, each) => sum + (each?.length ?? 0), 0);
      return others.length === 0
        ? `${victim.name} was frozen`
        : count > 0
          ? `the other owned ${count} partitions`
          : null;
    },
  },
  {
    name: 'cut-store',
    text: 'InfluxDB unreachable',
    gentle: true,
    impossible: ({ store }) => (store ? null : 'the store is embedded'),
    async strike(world, random) {
      world.store!.shut();
      const cut = world.store!.cut();
      let refused = 0;
      await pause(random.between(2_000, 4_000));
      await world.until(EVIDENCE_MS, () => {
        refused = world.store!.open();
        if (refused > 0) return true;
        world.store!.shut();
        return false;
      });
      world.store!.open();
      return refused > 0 ? `${cut} connections cut, ${refused} refused` : null;
    },
  },
];
