/**
 * The replicas of a node: each BlockVolume that names the node has one here, opened, exported and removed as the resource says.
 * The node writes what became of it to `status.replicas`; its entry goes when the files have gone. A node whose place another has got
 * while it was away finds its files at its start, and removes them: when its engine has ended, and the API server itself says after
 * that that the configuration does not name the node and that those whom it names have all of the volume.
 */
import { readdir } from 'node:fs/promises';
import { messageOf, UnionError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { isComplete } from '../../block/volume-config.ts';
import type { PeerListener } from '../../host/block/peer-listener.ts';
import type { PeerAddress } from '../../host/block/peer-network.ts';
import type { NbdExport } from '../../host/nbd/exports.ts';
import type { TlsFiles } from '../../host/tls.ts';
import type { Informer } from '../../kubernetes/informer.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import { createWorkQueue } from '../../kubernetes/workqueue.ts';
import {
  type BlockPool,
  type BlockReplicaStatus,
  type BlockVolume,
  blockPoolName,
  membersOf,
} from '../../protocol/block-resources.ts';
import { parseAddress } from './addresses.ts';
import { NodeReplica, removeFormerReplica, removeReplica, replicaDirectory } from './node-replica.ts';
import { expectDisk } from './pool-disk.ts';
import { VolumeConfigStore } from './volume-config.ts';

const CONCURRENCY = 4;
const MAX_MESSAGE_CHARACTERS = 1000;
const GROW_RETRY_MS = 1_000;
const RETIRE_RETRY_MS = 10_000;

type Requeue = undefined | { readonly requeueAfterMs: number };

export interface NodeReplicasOptions {
  readonly node: string;
  /** Directory of each pool of this node. */
  readonly pools: ReadonlyMap<string, string>;
  readonly volumes: Repository<BlockVolume>;
  readonly blockPools: Repository<BlockPool>;
  readonly volumeChanges: Informer<BlockVolume>;
  readonly poolChanges: Informer<BlockPool>;
  readonly listener: PeerListener;
  readonly exports: NbdExport[];
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
}

interface Held {
  readonly uid: string;
  readonly replica: NodeReplica;
  /** Why its engine has stopped, if it has. */
  stopped?: string;
}

export class NodeReplicas {
  readonly #options: NodeReplicasOptions;
  /** By volume. */
  readonly #held = new Map<string, Held>();

  constructor(options: NodeReplicasOptions) {
    this.#options = options;
  }

  /** Runs until the signal aborts; then all replicas are closed. The informers must be running. */
  async run(signal: AbortSignal): Promise<void> {
    const { node, volumeChanges, log } = this.#options;
    const queue = createWorkQueue({
      name: 'block-replica',
      work: (key, signal) => this.#reconcile(key, () => queue.add(key), signal),
      concurrency: CONCURRENCY,
      log,
    });
    const unsubscribe = volumeChanges.onChange(({ key, object }) => {
      const isFormer = this.#held.has(key) || object.status?.replicas?.[node] !== undefined;
      if (membersOf(object).includes(node) || isFormer) queue.add(key);
    });
    try {
      for (const volume of await this.#found()) queue.add(volume);
      await queue.run(signal);
    } finally {
      unsubscribe();
      await Promise.all([...this.#held.keys()].map((name) => this.#close(name)));
    }
  }

  /** Volumes of which something lies in the pools. */
  async #found(): Promise<readonly string[]> {
    const directories = [...this.#options.pools.values()];
    const found = await Promise.all(directories.map((directory) => readdir(directory).catch(() => [])));
    return found.flat().filter((name) => !name.startsWith('.'));
  }

  async #reconcile(name: string, again: () => void, signal: AbortSignal): Promise<Requeue> {
    const { volumes, node } = this.#options;
    const volume = await volumes.get({ name }, signal);
    const held = this.#held.get(name);
    if (held !== undefined && (held.uid !== volume?.metadata.uid || held.stopped !== undefined)) {
      await this.#close(name);
      if (held.stopped !== undefined && volume !== undefined) {
        await this.#report(volume, { phase: 'Failed', message: held.stopped }, signal);
        // Through the queue's back-off.
        throw new UnionError('UNAVAILABLE', `replica of ${name}: ${held.stopped}`);
      }
    }
    if (volume === undefined) return undefined;
    if (!membersOf(volume).includes(node)) return await this.#retire(volume, again, signal);
    if (volume.metadata.deletionTimestamp) return await this.#remove(volume, signal);
    // Written down first: who deletes the volume meanwhile waits for us.
    if (volume.status?.replicas?.[node] === undefined) {
      await this.#report(volume, { phase: 'Making' }, signal);
      again();
      return undefined;
    }
    try {
      const { replica } = this.#held.get(name) ?? (await this.#open(volume, again, signal));
      replica.exportTo(volume.spec.attachedTo);
      await this.#report(volume, { phase: 'Ready' }, signal);
      return (await this.#grow(volume, replica, signal)) ? undefined : { requeueAfterMs: GROW_RETRY_MS };
    } catch (error) {
      await this.#report(volume, { phase: 'Failed', message: messageOf(error) }, signal);
      throw error;
    }
  }

  /** The node that leads the volume makes it as large as it should be; the others look whether that is still undone. */
  async #grow({ metadata, spec, status }: BlockVolume, replica: NodeReplica, signal: AbortSignal): Promise<boolean> {
    const { uid, name } = metadata;
    const { capacityBytes } = spec;
    if (status?.capacityBytes !== undefined && BigInt(status.capacityBytes) >= BigInt(capacityBytes)) return true;
    if (!(await replica.growTo(Number(capacityBytes)))) return false;
    await this.#options.volumes.patchStatusMerge({ name }, { metadata: { uid }, status: { capacityBytes } }, signal);
    return true;
  }

  async #open(volume: BlockVolume, again: () => void, signal: AbortSignal): Promise<Held> {
    const { node, volumes, blockPools, volumeChanges, listener, exports, tls, log } = this.#options;
    const { name, uid = '' } = volume.metadata;
    const pool = this.#poolOf(volume);
    // Nothing is made in the empty directory of a disk that is missing.
    await expectDisk(pool, await blockPools.get({ name: blockPoolName(volume.spec.pool, node) }, signal));
    const known = (key: string) => volumeChanges.get(key);
    let early: string | undefined;
    const replica = await NodeReplica.open({
      ...{ node, volume, listener, exports, tls, log },
      directory: replicaDirectory(pool, name),
      config: new VolumeConfigStore({ volumes, known, name, uid, signal }),
      addressOf: (member) => this.#addressOf(name, member),
      onStop: (reason) => {
        const stopped = this.#held.get(name);
        if (stopped?.replica === replica) stopped.stopped = reason;
        else early = reason;
        again();
      },
    });
    const held: Held = { uid, replica, ...(early !== undefined && { stopped: early }) };
    this.#held.set(name, held);
    return held;
  }

  #poolOf({ metadata, spec }: BlockVolume): string {
    const directory = this.#options.pools.get(spec.pool);
    if (directory !== undefined) return directory;
    throw new UnionError(
      'FAILED_PRECONDITION',
      `volume ${metadata.name} has a replica in pool "${spec.pool}", which node ${this.#options.node} does not have; start block-node with it`,
    );
  }

  /** By the volume of now: its members change. */
  #addressOf(name: string, member: string): PeerAddress | undefined {
    const { volumeChanges, poolChanges } = this.#options;
    const volume = volumeChanges.get(name);
    if (volume === undefined || !membersOf(volume).includes(member)) return undefined;
    return parseAddress(poolChanges.get(blockPoolName(volume.spec.pool, member))?.status?.peerAddress);
  }

  /** Another node has this one's place. What is here goes when nobody can need it any more: until then it may be all that is left. */
  async #retire({ metadata, spec }: BlockVolume, again: () => void, signal: AbortSignal): Promise<Requeue> {
    const { node, pools, volumes, log } = this.#options;
    const { name, uid } = metadata;
    const pool = pools.get(spec.pool);
    await this.#close(name);
    // It may have got one again, and by now somebody may rely on what is here.
    const volume = await volumes.get({ name }, signal);
    if (volume?.metadata.uid !== uid || volume === undefined || membersOf(volume).includes(node)) {
      again();
      return undefined;
    }
    const { config } = volume.status ?? {};
    const isNeeded = volume.metadata.deletionTimestamp === undefined && config !== undefined && !isComplete(config);
    if (isNeeded) return { requeueAfterMs: RETIRE_RETRY_MS };
    const directory = pool && replicaDirectory(pool, name);
    if (directory && !(await removeFormerReplica(directory, volume, node))) log.warn('block.stranger', { directory });
    await this.#forget(volume, signal);
    return undefined;
  }

  async #remove(volume: BlockVolume, signal: AbortSignal): Promise<undefined> {
    const { name } = volume.metadata;
    await this.#close(name);
    await removeReplica(replicaDirectory(this.#poolOf(volume), name));
    await this.#forget(volume, signal);
    return undefined;
  }

  /** Nothing of the volume is here any more. */
  async #forget(volume: BlockVolume, signal: AbortSignal): Promise<void> {
    const { node, volumes } = this.#options;
    const { name, uid } = volume.metadata;
    if (volume.status?.replicas?.[node] === undefined) return;
    await volumes.patchStatusMerge({ name }, { metadata: { uid }, status: { replicas: { [node]: null } } }, signal);
  }

  async #close(name: string): Promise<void> {
    const held = this.#held.get(name);
    this.#held.delete(name);
    await held?.replica.close();
  }

  async #report(volume: BlockVolume, report: BlockReplicaStatus, signal: AbortSignal): Promise<void> {
    const { node, volumes } = this.#options;
    const { name, uid } = volume.metadata;
    const before = volume.status?.replicas?.[node];
    const message = report.message?.slice(0, MAX_MESSAGE_CHARACTERS);
    if (before?.phase === report.phase && before.message === message) return;
    // null takes the message of a failure away.
    const patch = { metadata: { uid }, status: { replicas: { [node]: { ...report, message: message ?? null } } } };
    await volumes.patchStatusMerge({ name }, patch, signal);
  }
}
