/** The objects of a cluster as someone outside sees them come and go, through restarts of its API server. */
import {
  type Kind,
  kindKey,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  unionAttachments,
  unionVolumes,
  volumeAttachments,
} from '../../src/embedded/api-server/kinds.ts';
import type { KubeObject } from '../../src/protocol/objects.ts';
import type { ApiClient } from './api-client.ts';

const KINDS: readonly Kind[] = [
  ...[nodes, pods, persistentVolumeClaims, persistentVolumes, volumeAttachments, unionVolumes, unionAttachments],
];

export class ClusterWatch {
  /** Called after every change. */
  onChange: () => void = () => {};
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #stop = new AbortController();
  readonly #watching: Promise<unknown>;

  constructor(api: ApiClient) {
    this.#watching = Promise.all(KINDS.map((kind) => this.#watch(api, kind)));
  }

  list<T extends KubeObject>(kind: Kind<T>): readonly T[] {
    return [...(this.#objects.get(kindKey(kind))?.values() ?? [])] as T[];
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#watching;
  }

  async #watch(api: ApiClient, kind: Kind): Promise<void> {
    let objects = new Map<string, KubeObject>();
    await api.watch(
      kind,
      (event) => {
        if (event.type === 'RECONNECTED') {
          // What is known stays so until the new connection has told all there is.
          objects = new Map();
          return;
        }
        const { metadata } = event.object;
        if (event.type === 'BOOKMARK') this.#objects.set(kindKey(kind), objects);
        else if (event.type === 'DELETED') objects.delete(`${metadata.namespace}/${metadata.name}`);
        else objects.set(`${metadata.namespace}/${metadata.name}`, event.object);
        if (this.#objects.get(kindKey(kind)) === objects) this.onChange();
      },
      this.#stop.signal,
    );
  }
}
