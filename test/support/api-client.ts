/**
 * A plain HTTP client of a Kubernetes API server that may be killed at any moment and come back elsewhere: writes are repeated
 * until they are answered, watches go on. Not the production client, which is part of what is tested.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Kind } from '../../src/embedded/api-server/kinds.ts';
import { events } from '../../src/embedded/api-server/kinds.ts';
import type { CoreEvent, KubeObject } from '../../src/protocol/objects.ts';

export interface Ref {
  readonly namespace?: string | undefined;
  readonly name: string;
}

const LIMIT_MS = 60_000;

export class ApiClient {
  readonly #server: () => string;

  /** `server` gives the URL; it may throw while there is none. */
  constructor(server: () => string) {
    this.#server = server;
  }

  async get<T extends KubeObject>(kind: Kind<T>, ref: Ref): Promise<T | undefined> {
    const { status, body } = await this.#request('GET', pathOf(kind, ref));
    if (status === 404) return undefined;
    return checked(status, body) as T;
  }

  async list<T extends KubeObject>(kind: Kind<T>): Promise<readonly T[]> {
    const { status, body } = await this.#request('GET', pathOf(kind));
    return (checked(status, body) as { items: T[] }).items;
  }

  /** One that is there already is taken for the answer to an earlier try. */
  async create<T extends KubeObject>(kind: Kind<T>, object: { metadata: Ref } & Partial<T>): Promise<void> {
    const { kind: name, group, version } = kind;
    const whole = { apiVersion: group ? `${group}/${version}` : version, kind: name, ...object };
    const { status, body } = await this.#request('POST', pathOf(kind, { ...object.metadata, name: '' }), whole);
    if (status !== 409) checked(status, body);
  }

  async patch<T extends KubeObject>(kind: Kind<T>, ref: Ref, patch: object): Promise<void> {
    const { status, body } = await this.#request('PATCH', pathOf(kind, ref), patch);
    checked(status, body);
  }

  /** One that is gone already is as wished. */
  async delete(kind: Kind, ref: Ref): Promise<void> {
    const { status, body } = await this.#request('DELETE', pathOf(kind, ref));
    if (status !== 404) checked(status, body);
  }

  /** `TYPE Reason: message` of the events about objects of that name. */
  async eventsAbout(name: string): Promise<readonly string[]> {
    const all: readonly CoreEvent[] = await this.list(events);
    return all
      .filter(({ involvedObject }) => involvedObject.name === name)
      .map(({ type, reason, message }) => `${type} ${reason}: ${message}`);
  }

  /** What a pod's container wrote; nothing while it has not started. */
  async log({ namespace, name }: Ref): Promise<string> {
    const response = await fetch(`${this.#server()}/api/v1/namespaces/${namespace}/pods/${name}/log`);
    return response.ok ? await response.text() : '';
  }

  /** Calls `onEvent` for every change, the objects that are there first, again after each loss of the connection. */
  async watch(kind: Kind, onEvent: (event: WatchEvent) => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const query = 'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
        const response = await fetch(`${this.#server()}${pathOf(kind)}?${query}`, { signal });
        onEvent({ type: 'RECONNECTED' });
        let rest = '';
        for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
          const lines = (rest + chunk).split('\n');
          rest = lines.pop()!;
          for (const line of lines) onEvent(JSON.parse(line));
        }
      } catch {
        // Killed, or not there yet.
      }
      await delay(5, undefined, { signal }).catch(() => {});
    }
  }

  /** One request, sent again until the server answers it. */
  async #request(method: string, path: string, body?: object): Promise<{ status: number; body: object }> {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    for (const until = Date.now() + LIMIT_MS; ; ) {
      try {
        const response = await fetch(`${this.#server()}${path}`, {
          method,
          headers: { 'Content-Type': type },
          ...(body && { body: JSON.stringify(body) }),
        });
        return { status: response.status, body: (await response.json()) as object };
      } catch (error) {
        if (Date.now() > until) throw error;
        await delay(10);
      }
    }
  }
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; readonly object: KubeObject }
  /** Objects that are there follow. */
  | { readonly type: 'RECONNECTED' };

function checked(status: number, body: object): object {
  if (status < 300) return body;
  throw new Error((body as { message?: string }).message ?? `the API server answered ${status}`);
}

function pathOf({ group, version, plural }: Kind, ref?: Ref): string {
  const base = group ? `/apis/${group}/${version}` : `/api/${version}`;
  const namespace = ref?.namespace ? `/namespaces/${ref.namespace}` : '';
  return `${base}${namespace}/${plural}${ref?.name ? `/${ref.name}` : ''}`;
}
