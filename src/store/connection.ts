/**
 * The client library's object and its sockets. The client leaves a request that timed out on its socket, where the server
 * may still answer it or never: so after a timeout all sockets are closed, and later requests begin with new ones.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { InfluxDB, RequestTimedOutError } from '@influxdata/influxdb-client';
import type { InfluxConfig } from '../config.ts';

export class Connection {
  readonly #config: InfluxConfig;
  #agent: HttpAgent;
  #influx: InfluxDB;
  #queries: InfluxDB;

  constructor(config: InfluxConfig) {
    this.#config = config;
    this.#agent = newAgent(config);
    this.#influx = newClient(config, this.#agent, config.timeoutMs);
    this.#queries = newClient(config, this.#agent, 0);
  }

  /** For one request; ask again for the next. */
  get influx(): InfluxDB {
    return this.#influx;
  }

  /** For `ask`, which limits the waiting itself. */
  get queries(): InfluxDB {
    return this.#queries;
  }

  /** To be told what a request that used `influx` threw. */
  failed(influx: InfluxDB, thrown: unknown): void {
    if (!(thrown instanceof RequestTimedOutError) || influx !== this.#influx) return;
    this.#agent.destroy();
    this.#agent = newAgent(this.#config);
    this.#influx = newClient(this.#config, this.#agent, this.#config.timeoutMs);
    this.#queries = newClient(this.#config, this.#agent, 0);
  }

  close(): void {
    this.#agent.destroy();
  }
}

function newAgent(config: InfluxConfig): HttpAgent {
  const Agent = config.url.startsWith('https:') ? HttpsAgent : HttpAgent;
  return new Agent({ keepAlive: true });
}

function newClient({ url, token }: InfluxConfig, agent: HttpAgent, timeout: number): InfluxDB {
  return new InfluxDB({ url, token, timeout, transportOptions: { agent } });
}
