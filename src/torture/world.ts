/**
 * The pipeline under torture: its processes, the proxies in front of them, the disk under the gateway. With servers: one
 * gateway and two rollups that share a consumer group; without: one process that does everything.
 */
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import { pause } from '../retry.ts';
import { type SmallDisk, smallDisk } from './disk.ts';
import { freePort, Program } from './program.ts';
import { TcpProxy } from './proxy.ts';

/** An address outside, and the proxy in front of it. */
export interface Link {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/** What is written into the configuration of one process. */
export interface ProcessPlan {
  readonly name: string;
  readonly role: 'all' | 'gateway' | 'rollup';
  readonly data: string;
  readonly mqttPort: number;
  readonly httpPort: number;
  /** The proxy in front of the store; absent: the store is embedded. */
  readonly storePort?: number;
}

export interface WorldOptions {
  /** For configurations, data, ledgers and outputs. */
  readonly folder: string;
  /** Kafka carries the log: gateway and rollups are processes apart. */
  readonly isApart: boolean;
  /** Where the InfluxDB is. */
  readonly store: Link | null;
  /** Null: no small disk. */
  readonly diskBytes: number | null;
  readonly preload: readonly string[];
  /** Writes the configuration of a process and answers its file. */
  configure(plan: ProcessPlan): string;
  readonly clock: Clock;
}

const SETTLE_POLL_MS = 100;

export class World {
  readonly gateway: Program;
  /** The gateway itself where one process does everything. */
  readonly rollups: readonly Program[];
  /** In front of the gateway: devices connect to it. */
  readonly devices: TcpProxy;
  readonly store: TcpProxy | null;
  readonly disk: SmallDisk | null;
  readonly isApart: boolean;
  readonly clock: Clock;

  private constructor(parts: Pick<World, 'gateway' | 'rollups' | 'devices' | 'store' | 'disk' | 'isApart' | 'clock'>) {
    this.gateway = parts.gateway;
    this.rollups = parts.rollups;
    this.devices = parts.devices;
    this.store = parts.store;
    this.disk = parts.disk;
    this.isApart = parts.isApart;
    this.clock = parts.clock;
  }

  static async start(options: WorldOptions): Promise<World> {
    const { folder, isApart, store, clock, preload } = options;
    const mqttPort = await freePort();
    const devices = await TcpProxy.start('127.0.0.1', mqttPort);
    const storeProxy = store === null ? null : await TcpProxy.start(store.host, store.port);
    const data = join(folder, 'data');
    const disk = options.diskBytes === null ? null : smallDisk(data, options.diskBytes);
    const program = async (name: string, role: ProcessPlan['role'], where: string): Promise<Program> => {
      const httpPort = await freePort();
      const own = { name, role, data: where, mqttPort, httpPort };
      const config = options.configure({ ...own, ...(storeProxy ? { storePort: storeProxy.port } : undefined) });
      return new Program({ name, role, config, httpPort, log: join(folder, `${name}.log`), preload, clock });
    };
    const gateway = await program('gateway', isApart ? 'gateway' : 'all', data);
    const rollups: Program[] = [];
    // Two of them can share a store; one embedded store has one writer.
    for (let i = 0; isApart && i < (store ? 2 : 1); i++) {
      rollups.push(await program(`rollup-${i + 1}`, 'rollup', join(folder, `data-rollup-${i + 1}`)));
    }
    const world = new World({
      ...{ gateway, rollups: isApart ? rollups : [gateway], devices, store: storeProxy, disk, isApart, clock },
    });
    try {
      for (const each of world.programs) await each.start();
    } catch (thrown) {
      await world.kill();
      throw thrown;
    }
    return world;
  }

  get programs(): readonly Program[] {
    return this.isApart ? [this.gateway, ...this.rollups] : [this.gateway];
  }

  /** Every window of every partition that ends at or before it is durable; null while that is not known. */
  async durableToMs(partitions: number): Promise<number | null> {
    const frontiers = new Map<string, number>();
    for (const rollup of this.rollups) {
      for (const { labels, value } of (await rollup.metrics('millrace_frontier_seconds')) ?? []) {
        frontiers.set(labels, Math.max(frontiers.get(labels) ?? 0, Math.round(value * 1_000)));
      }
    }
    return frontiers.size < partitions ? null : Math.min(...frontiers.values());
  }

  /** Waits for a condition; false: it did not come true in time. */
  async until(withinMs: number, condition: () => Promise<boolean> | boolean): Promise<boolean> {
    const deadlineMs = this.clock.monotonicMs() + withinMs;
    while (!(await condition())) {
      if (this.clock.monotonicMs() > deadlineMs) return false;
      await pause(SETTLE_POLL_MS);
    }
    return true;
  }

  /** Ends what still runs, at once, and takes the disk away. */
  async kill(): Promise<void> {
    await Promise.all(this.programs.map((program) => program.end('SIGKILL')));
    await this.devices.close();
    await this.store?.close();
    this.disk?.release();
  }
}
