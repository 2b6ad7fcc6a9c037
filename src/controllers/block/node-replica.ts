/**
 * One replica on its node: its directory, made if need be, its engine, and its export to the node that the volume is attached to. A
 * replica whose engine has stopped is opened again from its files after a while; its reasons are reported meanwhile.
 */
import { createHash } from 'node:crypto';
import { access, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { geometryOf } from '../../block/areas.ts';
import { chooseSuperblock, type Identity } from '../../block/recovery.ts';
import { BLOCK_SIZE, toEpoch } from '../../block/units.ts';
import type { PeerListener } from '../../host/block/peer-listener.ts';
import { type PeerAddress, PeerNetwork } from '../../host/block/peer-network.ts';
import { createReplica, ReplicaFiles, syncDirectory } from '../../host/block/replica-files.ts';
import { ReplicaHost } from '../../host/block/replica-host.ts';
import { ByteDevice } from '../../host/nbd/byte-device.ts';
import { NbdExport } from '../../host/nbd/exports.ts';
import type { TlsFiles } from '../../host/tls.ts';
import { type BlockVolume, membersOf } from '../../protocol/block-resources.ts';
import type { VolumeConfigStore } from './volume-config.ts';

export interface NodeReplicaOptions {
  readonly node: string;
  readonly volume: BlockVolume;
  /** Of its pool. */
  readonly directory: string;
  readonly config: VolumeConfigStore;
  readonly addressOf: (node: string) => PeerAddress | undefined;
  readonly listener: PeerListener;
  /** Of this machine's NBD server. */
  readonly exports: NbdExport[];
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
  /** Its engine has stopped for good. */
  readonly onStop: (reason: string) => void;
}

/** Where a volume's replica lies in a pool's directory. */
export function replicaDirectory(pool: string, volume: string): string {
  return join(pool, volume);
}

export class NodeReplica {
  readonly #options: NodeReplicaOptions;
  readonly #host: ReplicaHost;
  readonly #network: PeerNetwork | undefined;
  #export: NbdExport | undefined;

  private constructor(options: NodeReplicaOptions, host: ReplicaHost, network: PeerNetwork | undefined) {
    this.#options = options;
    this.#host = host;
    this.#network = network;
  }

  /** Makes what is not there yet, and starts the engine. */
  static async open(options: NodeReplicaOptions): Promise<NodeReplica> {
    const { node, volume, directory, config, addressOf, listener, tls, onStop } = options;
    const members = membersOf(volume);
    const { minInSync } = volume.spec;
    const identity = identityOf(volume, node);
    const log = options.log.child({ volume: volume.metadata.name });
    // A conflict: another member has been first.
    await config.replace({ version: 1, epoch: toEpoch(0), primary: members[0]!, inSync: members, members });
    const { epoch } = await config.read();
    await mkdir(directory, { recursive: true });
    const files = filesIn(directory);
    // Nobody has led yet: nothing was ever written. Later, a replica that is missing has lost what it had.
    if (!(await exists(files))) await createReplica(files, identity, epoch === 0n ? 'empty' : 'blank');
    const disk = await ReplicaFiles.open(files, ({ kind, area }, error) =>
      log.error('block.disk', { operation: kind, area, error: String(error) }),
    );
    const network =
      members.length > 1
        ? new PeerNetwork({ id: node, volume: identity.volume, addressOf, listener, tls, log })
        : undefined;
    const host = new ReplicaHost({ id: node, identity, minInSync }, { disk, config, network, log, onStop });
    host.start();
    return new NodeReplica(options, host, network);
  }

  /** Serves the node that the volume is attached to, and nobody else. */
  exportTo(node: string | null | undefined): void {
    const { volume, exports } = this.#options;
    const name = node ? exportName(volume.metadata.name, node) : undefined;
    if (this.#export?.device.name === name) return;
    this.#withdraw();
    if (name === undefined) return;
    this.#export = new NbdExport(new ByteDevice(this.#host.deviceOf(name)), {
      isServing: () => this.#host.isServing,
      isSingle: true,
    });
    exports.push(this.#export);
  }

  /** Makes the volume that large, if it is smaller and this replica leads it. Whether it is by now. */
  async growTo(capacityBytes: number): Promise<boolean> {
    if (!this.#host.isServing) return false;
    const blocks = capacityBytes / BLOCK_SIZE;
    if (this.#host.blocks >= blocks) return true;
    return (await this.#host.request({ kind: 'resize', blocks })).ok;
  }

  /** Stops serving; what clients were told to be written is so. */
  async close(): Promise<void> {
    this.#withdraw();
    if (this.#host.isServing) await this.#host.request({ kind: 'flush' });
    await this.#host.close();
    await this.#network?.close();
  }

  #withdraw(): void {
    const { exports } = this.#options;
    if (this.#export === undefined) return;
    exports.splice(exports.indexOf(this.#export), 1);
    this.#export.cut();
    this.#export = undefined;
  }
}

/** Removes a replica's files. */
export async function removeReplica(directory: string): Promise<void> {
  if (!(await exists(directory))) return;
  await rm(directory, { recursive: true });
  await syncDirectory(join(directory, '..'));
}

/**
 * Removes the files of a replica that is none any more. Not those of another node's: its disk may have been put into this machine, and be
 * the last that has the volume. False: what is there is not this node's.
 */
export async function removeFormerReplica(directory: string, volume: BlockVolume, node: string): Promise<boolean> {
  const path = join(filesIn(directory), 'superblock');
  if (await exists(path)) {
    const choice = chooseSuperblock(await readFile(path), identityOf(volume, node));
    if (!choice.ok) return false;
  }
  await removeReplica(directory);
  return true;
}

function filesIn(directory: string): string {
  return join(directory, 'replica');
}

/** By which a client asks for a volume: the node it is on is a part, so that one that is detached is not served. */
export function exportName(volume: string, node: string): string {
  return `${volume}/${node}`;
}

export function identityOf({ metadata, spec }: BlockVolume, node: string): Identity {
  const volume = metadata.uid?.replaceAll('-', '') ?? '';
  const geometry = geometryOf(Number(spec.capacityBytes));
  if (!geometry.ok) throw new UnionError('INVALID_ARGUMENT', `volume ${metadata.name}: ${geometry.error}`);
  // The same at each start, so that one replica's directory in another's place is noticed.
  const replica = createHash('sha256').update(`${volume}/${node}`).digest('hex').slice(0, 32);
  return { volume, replica, geometry: geometry.value };
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
