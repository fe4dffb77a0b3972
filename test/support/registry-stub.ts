/**
 * A schema registry in memory, as far as Millrace asks one, by Confluent's published API: registering, looking up, schemas by
 * id, its error codes, basic authentication. `trouble` answers in its place.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Trouble {
  readonly status: number;
  readonly body: unknown;
}

interface Registered {
  readonly id: number;
  readonly subject: string;
  readonly schema: string;
  readonly schemaType: string;
}

export class RegistryStub {
  readonly registered: Registered[] = [];
  readonly asked: string[] = [];
  trouble: Trouble | null = null;
  /** `user:password`; null: everybody may. */
  login: string | null = null;
  #server: Server | null = null;
  #port = 0;

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** On the port of before, if there was one. */
  async open(): Promise<void> {
    const server = createServer((request, response) => {
      let text = '';
      request.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      request.on('end', () => {
        this.asked.push(`${request.method} ${request.url}`);
        const { status, body } = this.trouble ?? this.#answer(request.method!, request.url!, text, request.headers);
        response.writeHead(status, { 'content-type': 'application/vnd.schemaregistry.v1+json' });
        response.end(typeof body === 'string' ? body : JSON.stringify(body));
      });
    });
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    server?.closeAllConnections();
    if (server) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** As another program would. */
  add(subject: string, schema: string, schemaType = 'AVRO'): number {
    const known = this.registered.find((one) => one.schema === schema && one.schemaType === schemaType);
    const id = known?.id ?? 70_000 + this.registered.length;
    this.registered.push({ id, subject, schema, schemaType });
    return id;
  }

  #answer(method: string, url: string, text: string, headers: { authorization?: string | undefined }): Trouble {
    if (this.login !== null && headers.authorization !== `Basic ${Buffer.from(this.login).toString('base64')}`) {
      return { status: 401, body: { error_code: 40101, message: 'Unauthorized' } };
    }
    const [, subject, versions] = /^\/subjects\/([^/]+)(\/versions)?$/.exec(url) ?? [];
    if (method === 'POST' && subject !== undefined) {
      const { schema, schemaType = 'AVRO' } = JSON.parse(text) as { schema: string; schemaType?: string };
      const name = decodeURIComponent(subject);
      const ofSubject = this.registered.filter((one) => one.subject === name);
      const known = ofSubject.find((one) => one.schema === schema && one.schemaType === schemaType);
      if (known) return { status: 200, body: versions ? { id: known.id } : { ...known, version: 1 } };
      if (!versions) {
        const error_code = ofSubject.length === 0 ? 40401 : 40403;
        return {
          status: 404,
          body: { error_code, message: error_code === 40401 ? 'Subject not found' : 'Schema not found' },
        };
      }
      if (ofSubject.length > 0) {
        return { status: 409, body: { error_code: 409, message: 'Schema being registered is incompatible' } };
      }
      return { status: 200, body: { id: this.add(name, schema, schemaType) } };
    }
    const [, id] = /^\/schemas\/ids\/(\d+)$/.exec(url) ?? [];
    const found = this.registered.find((one) => one.id === Number(id));
    if (!found) return { status: 404, body: { error_code: 40403, message: 'Schema not found' } };
    const { schema, schemaType } = found;
    // AVRO is not named in its answers.
    return { status: 200, body: schemaType === 'AVRO' ? { schema } : { schema, schemaType } };
  }
}
