/** A node's replicas of one volume, with as much of an API server as they use. */
import { silentLogger } from '../../src/base/logger.ts';
import { ok } from '../../src/base/result.ts';
import { NodeReplicas, type NodeReplicasOptions } from '../../src/controllers/block/node-replicas.ts';
import type { BlockPool, BlockVolume, BlockVolumeStatus } from '../../src/protocol/block-resources.ts';

interface Change {
  readonly key: string;
  readonly object: BlockVolume;
}

export class NodeReplicasUnderTest {
  /** How often the volume was read. */
  reads = 0;
  /** What was written to its status. */
  readonly patches: BlockVolumeStatus[] = [];
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #volume: BlockVolume | undefined;
  #listener: ((change: Change) => void) | undefined;

  /** `directory` is that of its pool `default`. */
  constructor({ node, directory, pool }: { node: string; directory: string; pool?: BlockPool }) {
    const options = {
      ...{ node, pools: new Map([['default', directory]]), exports: [], log: silentLogger },
      blockPools: { get: async () => pool },
      volumes: {
        get: async () => {
          this.reads++;
          return this.#volume;
        },
        patchStatusMerge: async (_: object, { status }: { status: BlockVolumeStatus }) => {
          this.patches.push(status);
          return ok(this.#volume);
        },
      },
      volumeChanges: {
        onChange: (listener: (change: Change) => void) => {
          this.#listener = listener;
          return () => {};
        },
      },
    };
    this.#running = new NodeReplicas(options as unknown as NodeReplicasOptions).run(this.#stop.signal);
  }

  /** The volume is this from now on, and the node hears of it. */
  change(volume: BlockVolume): void {
    this.#volume = volume;
    this.#listener!({ key: volume.metadata.name, object: volume });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
