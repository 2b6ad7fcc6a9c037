/** CSI calls by the names that the specification gives them, to a driver's sockets, as whoever may send them in any order. */
import { type Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { loadCsi } from '../../src/protocol/proto.ts';

export type Answer = Record<string, unknown>;

export class CsiCalls {
  readonly #clients: readonly Client[];

  /** Paths of sockets. */
  constructor({ controller, node }: { readonly controller: string; readonly node: string }) {
    const { Identity, Controller, Node } = loadCsi();
    const insecure = credentials.createInsecure();
    this.#clients = [
      new Controller(`unix://${controller}`, insecure),
      ...[Node, Identity].map((Service) => new Service(`unix://${node}`, insecure)),
    ];
  }

  send(method: string, request: object, limitMs = 60_000): Promise<Answer> {
    const name = method.charAt(0).toLowerCase() + method.slice(1);
    const client = this.#clients.find((candidate) => name in candidate) as unknown as Record<string, Call>;
    return new Promise((resolve, reject) => {
      client[name]!(request, new Metadata(), { deadline: Date.now() + limitMs }, (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

type Call = (
  request: object,
  metadata: Metadata,
  options: { deadline: number },
  done: (error: ServiceError | null, answer: Answer) => void,
) => void;
