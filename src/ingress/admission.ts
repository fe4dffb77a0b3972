/**
 * Who is let in: answers aedes' `preConnect` and `authenticate` for each CONNECT. What breaks the standard gets no answer
 * but the end; what is not allowed gets its CONNACK code first. A client id belongs to the user who has it connected or
 * has a session under it: another user would else throw the device off, or read its messages.
 */
import { randomUUID } from 'node:crypto';
import type { AuthenticateError, Client, ConnectPacket } from 'aedes';
import type { MqttLimits } from '../config.ts';
import { bindAccess } from './access.ts';
import { type Authenticator, CONNACK, type ConnackCode, type Identity } from './authenticate.ts';
import { type Connection, connectionOf } from './connection.ts';
import type { Rates } from './pending.ts';
import type { Sessions } from './session.ts';
import { isReserved } from './topic.ts';
import { connectProblem } from './wire.ts';

export interface AdmissionOptions {
  readonly limits: MqttLimits;
  readonly authenticator: Authenticator;
  readonly sessions: Sessions;
  readonly rates: Rates;
  readonly limitReached: (limit: string) => void;
  /** For the log. */
  readonly turnedAway: (connection: Connection, reason: string) => void;
}

export interface Refusal {
  readonly code: ConnackCode;
  readonly reason: string;
}

export class Admission {
  readonly #options: AdmissionOptions;
  /** Connections by client id, from the moment they are let in. */
  readonly #named = new Map<string, Connection>();

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** aedes' hook. */
  readonly preConnect = (
    client: Client,
    packet: ConnectPacket,
    callback: (error: Error | null, success: boolean) => void,
  ): void => {
    const problem = this.#prepare(connectionOf(client)!, packet);
    callback(problem === null ? null : new Error(problem), problem === null);
  };

  /** aedes' hook. */
  readonly authenticate = (
    client: Client,
    username: string | undefined,
    password: Uint8Array | undefined,
    callback: (error: AuthenticateError | null, success: boolean | null) => void,
  ): void => {
    const connection = connectionOf(client)!;
    const refuse = ({ code, reason }: Refusal): void => {
      this.#options.turnedAway(connection, reason);
      callback(Object.assign(new Error(reason), { returnCode: code as number }), false);
    };
    if (connection.refusal) {
      refuse(connection.refusal);
      return;
    }
    const { address, certificateName } = connection.origin;
    this.#options.authenticator.check({ username, password, certificateName, address }, (decision) => {
      if (connection.closed) return;
      connection.refusal = decision.kind === 'out' ? decision : this.#admit(connection, decision.identity);
      if (connection.refusal) refuse(connection.refusal);
      else callback(null, true);
    });
  };

  /** The rules may have changed. Answers the connections of those who would not be let in any more. */
  review(): Connection[] {
    const revoked: Connection[] = [];
    for (const connection of this.#named.values()) {
      const rules = this.#options.authenticator.rulesOf(connection.identity!);
      connection.allowedTopic = null;
      if (rules === null) revoked.push(connection);
      else connection.access = bindAccess(rules, connection.user, connection.id);
    }
    return revoked;
  }

  admitted(): Iterable<Connection> {
    return this.#named.values();
  }

  left(connection: Connection): void {
    if (connection.rateName !== null) this.#options.rates.leave(connection.rateName);
    if (this.#named.get(connection.id) === connection) this.#named.delete(connection.id);
  }

  /** A text: the CONNECT breaks the standard and gets no answer. Fills in what the client left to us. */
  #prepare(connection: Connection, packet: ConnectPacket): string | null {
    const { limits, limitReached } = this.#options;
    const problem = connectProblem(packet, limits.topicLevels);
    if (problem !== null) return problem;
    if (packet.clientId === '') {
      if (packet.clean && packet.protocolVersion !== 3) packet.clientId = `anonymous-${randomUUID()}`;
      else connection.refusal = { code: CONNACK.identifierRejected, reason: 'an empty client id [MQTT-3.1.3-8]' };
    } else if (Buffer.byteLength(packet.clientId) > limits.clientIdLength) {
      limitReached('client_id_length');
      connection.refusal = { code: CONNACK.identifierRejected, reason: 'the client id is too long [MQTT-3.1.3-9]' };
    }
    const keepaliveMaxS = Math.max(1, Math.floor(limits.keepaliveMaxMs / 1000));
    if (!packet.keepalive || packet.keepalive > keepaliveMaxS) {
      // 3.1.1 has no answer for it; a server may disconnect who is silent at any time
      limitReached('keepalive');
      packet.keepalive = keepaliveMaxS;
    }
    connection.id = packet.clientId;
    connection.will = packet.will ?? null;
    return null;
  }

  /** The client is who it says; whether it may be here under this client id and with this will. */
  #admit(connection: Connection, identity: Identity): Refusal | null {
    const { id } = connection;
    const holder = this.#named.get(id);
    const owner = holder ? holder.user : this.#options.sessions.ownerOf(id);
    if (owner !== undefined && owner !== identity.user) {
      return { code: CONNACK.identifierRejected, reason: 'the client id belongs to another user' };
    }
    const access = bindAccess(identity.rules, identity.user, id);
    const will = connection.will as { topic: string } | null;
    if (will && (isReserved(will.topic) || !access.mayPublish(will.topic))) {
      return { code: CONNACK.notAuthorized, reason: `not allowed to leave a will on "${will.topic.slice(0, 200)}"` };
    }
    connection.identity = identity;
    connection.access = access;
    connection.rateName = identity.user === null ? `client:${id}` : `user:${identity.user}`;
    connection.gate.bucket = this.#options.rates.join(connection.rateName);
    this.#named.set(id, connection);
    return null;
  }
}
