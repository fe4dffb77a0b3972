/** A bare broker for the tests of the simulator: aedes on a free port, and what reached it. */

import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { Aedes, type AuthenticateError } from 'aedes';

export interface Received {
  readonly client: string;
  readonly topic: string;
  readonly payload: Buffer;
}

export interface TestBroker {
  readonly url: string;
  readonly port: number;
  readonly received: Received[];
  /** Clients that connected, in order. */
  readonly clients: string[];
  /** Decides for each publish: true = acknowledge, false = never answer, 'close' = close the connection. */
  answer: (received: Received) => boolean | 'close';
  /** Breaks all connections as a killed process does. */
  cut(): void;
  /** Stops listening and breaks all connections. */
  close(): Promise<void>;
}

export async function startBroker(options: { port?: number; password?: string } = {}): Promise<TestBroker> {
  const aedes = await Aedes.createBroker({ queueLimit: 100_000 });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    aedes.handle(socket);
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const broker: TestBroker = {
    url: `mqtt://127.0.0.1:${port}`,
    port,
    received: [],
    clients: [],
    answer: () => true,
    cut,
    close: async () => {
      server.close();
      cut();
      await new Promise<void>((resolve) => aedes.close(resolve));
    },
  };
  aedes.on('client', (client) => void broker.clients.push(client.id));
  aedes.on('clientError', () => {});
  aedes.on('connectionError', () => {});
  aedes.authenticate = (_client, _username, password, done) => {
    const refused = options.password !== undefined && String(password) !== options.password;
    if (!refused) done(null, true);
    else done(Object.assign(new Error('refused'), { returnCode: 5 }) as unknown as AuthenticateError, false);
  };
  aedes.authorizePublish = (client, packet, done) => {
    const entry = { client: client?.id ?? '', topic: packet.topic, payload: packet.payload as Buffer };
    const answer = broker.answer(entry);
    if (answer === 'close') {
      client?.conn.destroy();
      return;
    }
    broker.received.push(entry);
    if (answer) done(null);
  };
  return broker;
}
