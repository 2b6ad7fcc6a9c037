/**
 * What the two embedded lower drivers share: volumes as directories under `<dir>/lower/<driver>/`, each bound to one node.
 *
 *   <volume>/volume.json   the record: a volume exists from the moment its directory has its name
 *   <volume>/…             the backend's: an image, a directory
 *   .new-<volume>          being made; .old-<volume> being deleted: removed when found, at start and before a retry
 *
 * The record and mountinfo are the only state, so every call can be repeated, also after a kill at any point.
 * The capacity parameter `poolSize` bounds the sum of all volumes of the driver on a node: real "no space" for tests.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../base/clock.ts';
import { UnionError } from '../../base/errors.ts';
import { KeyedMutex } from '../../base/keyed-mutex.ts';
import { nearest } from '../../base/nearest.ts';
import { formatBytes, formatQuantity, parseQuantity } from '../../base/units.ts';
import { bindMount, unmountAll } from '../../host/mounter.ts';
import { mountAt } from '../../host/mountinfo.ts';
import { replaceFile } from '../../host/replace-file.ts';
import type { CreateVolumeRequest } from '../../protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { NodeStageVolumeRequest } from '../../protocol/generated/csi/v1/NodeStageVolumeRequest.ts';
import type { Volume__Output } from '../../protocol/generated/csi/v1/Volume.ts';
import { TOPOLOGY_KEY_NODE } from '../../protocol/resources.ts';
import type { CsiController, CsiNode } from '../csi-driver.ts';

/** What differs between the drivers. `directory` is a volume's own. */
export interface Backend {
  readonly name: string;
  /** Whether volumes are mounted once per node, by `stage`. */
  readonly stages: boolean;
  make(directory: string, sizeBytes: bigint, signal: AbortSignal): Promise<void>;
  /** Throws while the volume is in use. */
  assertUnused(directory: string, signal: AbortSignal): Promise<void>;
  /** Mounts the volume; not called when it is mounted. */
  stage(directory: string, stagingPath: string, mountFlags: readonly string[], signal: AbortSignal): Promise<void>;
  /** What to bind into pods. */
  publishSource(directory: string, stagingPath: string): string;
  /** Makes the volume larger, but for what only `fill` can do. */
  grow(directory: string, sizeBytes: bigint, signal: AbortSignal): Promise<void>;
  /** Makes a mounted volume as large as it should be; FAILED_PRECONDITION if that must wait for the next `stage`. */
  fill(directory: string, signal: AbortSignal): Promise<void>;
}

export interface LowerDriver {
  readonly name: string;
  readonly controller: CsiController;
  node(nodeName: string): CsiNode;
}

interface VolumeRecord {
  readonly sizeBytes: string;
  readonly node: string;
  readonly poolSizeBytes?: string;
}

const MINIMUM_BYTES = 1n << 20n;
const DEFAULT_BYTES = 1n << 30n;
const VOLUME_ID = /^[a-z0-9][a-z0-9-]{0,99}$/;

/** The volumes on disk, and the space promised to those being made. */
class Volumes {
  readonly root: string;
  readonly backend: Backend;
  readonly mutex = new KeyedMutex();
  readonly #promised = new Map<string, { readonly node: string; readonly bytes: bigint }>();

  constructor(root: string, backend: Backend) {
    this.root = root;
    this.backend = backend;
    mkdirSync(root, { recursive: true });
    for (const name of readdirSync(root)) {
      if (name.startsWith('.')) rmSync(join(root, name), { recursive: true, force: true });
    }
  }

  directory(volumeId: string): string {
    if (!VOLUME_ID.test(volumeId)) throw new UnionError('NOT_FOUND', `${this.backend.name}: no volume "${volumeId}"`);
    return join(this.root, volumeId);
  }

  get(volumeId: string): VolumeRecord | undefined {
    try {
      return JSON.parse(readFileSync(join(this.directory(volumeId), 'volume.json'), 'utf8'));
    } catch {
      return undefined;
    }
  }

  mustGet(volumeId: string): VolumeRecord {
    const record = this.get(volumeId);
    if (record) return record;
    throw new UnionError('NOT_FOUND', `${this.backend.name}: no volume "${volumeId}" under ${this.root}`);
  }

  /** Takes space from node and disk until `release`. Synchronous, so that no two calls promise the same bytes. */
  promise(volumeId: string, record: VolumeRecord, additional: bigint): void {
    const { node } = record;
    const { bavail, bsize } = statfsSync(this.root, { bigint: true });
    const taken = this.#taken(node);
    const left = record.poolSizeBytes === undefined ? undefined : BigInt(record.poolSizeBytes) - taken;
    if ((left !== undefined && additional > left) || additional > bavail * bsize) {
      const pool =
        left === undefined
          ? `the pool of node ${node} has no limit`
          : `the pool of node ${node} has ${formatBytes(left < 0n ? 0n : left)} of ${formatBytes(BigInt(record.poolSizeBytes!))} left`;
      throw new UnionError(
        'RESOURCE_EXHAUSTED',
        `no space for ${formatBytes(additional)}: ${pool}, the disk under ${this.root} has ${formatBytes(bavail * bsize)}; ` +
          'ask for less, or delete volumes',
      );
    }
    this.#promised.set(volumeId, { node, bytes: additional });
  }

  release(volumeId: string): void {
    this.#promised.delete(volumeId);
  }

  #taken(node: string): bigint {
    let sum = 0n;
    for (const name of readdirSync(this.root)) {
      const record = name.startsWith('.') ? undefined : this.get(name);
      if (record?.node === node) sum += BigInt(record.sizeBytes);
    }
    for (const promised of this.#promised.values()) if (promised.node === node) sum += promised.bytes;
    return sum;
  }

  write(directory: string, record: VolumeRecord): void {
    replaceFile(join(directory, 'volume.json'), `${JSON.stringify(record)}\n`);
  }
}

/** A driver over `backend` with its volumes under `directory`. */
export function createLowerDriver(directory: string, backend: Backend): LowerDriver {
  const volumes = new Volumes(directory, backend);
  return { name: backend.name, controller: controllerOf(volumes), node: (nodeName) => nodeOf(volumes, nodeName) };
}

function controllerOf(volumes: Volumes): CsiController {
  const { backend, mutex } = volumes;
  return {
    createVolume: (request, signal) =>
      mutex.run(request.name ?? '', async () => await createVolume(volumes, request, signal)),
    deleteVolume: (volumeId, signal) =>
      mutex.run(volumeId, async () => {
        if (!volumes.get(volumeId)) return;
        const directory = volumes.directory(volumeId);
        await backend.assertUnused(directory, signal);
        const old = join(volumes.root, `.old-${volumeId}`);
        renameSync(directory, old);
        rmSync(old, { recursive: true });
      }),
    capabilities: () => Promise.resolve(new Set(['CREATE_DELETE_VOLUME', 'EXPAND_VOLUME'])),
    publishVolume: () => Promise.resolve({}),
    unpublishVolume: () => Promise.resolve(),
    expandVolume: ({ volumeId = '', capacityRange }, signal) =>
      mutex.run(volumeId, async () => {
        const record = volumes.mustGet(volumeId);
        const wanted = BigInt(String(capacityRange?.requiredBytes ?? 0));
        const size = roundUp(wanted);
        if (size > BigInt(record.sizeBytes)) {
          volumes.promise(volumeId, record, size - BigInt(record.sizeBytes));
          try {
            await backend.grow(volumes.directory(volumeId), size, signal);
            volumes.write(volumes.directory(volumeId), { ...record, sizeBytes: String(size) });
          } finally {
            volumes.release(volumeId);
          }
        }
        return { capacityBytes: volumes.mustGet(volumeId).sizeBytes, nodeExpansionRequired: backend.stages };
      }),
  };
}

async function createVolume(
  volumes: Volumes,
  request: CreateVolumeRequest,
  signal: AbortSignal,
): Promise<Volume__Output> {
  const volumeId = request.name ?? '';
  const { backend } = volumes;
  const directory = volumes.directory(volumeId);
  const asked = BigInt(String(request.capacityRange?.requiredBytes ?? 0));
  const size = roundUp(asked === 0n ? DEFAULT_BYTES : asked);
  if (request.volumeCapabilities?.some((capability) => capability.block)) {
    throw new UnionError('INVALID_ARGUMENT', `${backend.name} has no block volumes; set volumeMode: Filesystem`);
  }
  const poolSizeBytes = parsePoolSize(backend, request.parameters ?? {});
  const existing = volumes.get(volumeId);
  if (existing && BigInt(existing.sizeBytes) < size) {
    const has = formatQuantity(BigInt(existing.sizeBytes));
    throw new UnionError(
      'ALREADY_EXISTS',
      `volume ${volumeId} exists with ${has}; ask for no more, or take another name`,
    );
  }
  if (!existing) {
    const record: VolumeRecord = {
      sizeBytes: String(size),
      node: chooseNode(backend, request),
      ...(poolSizeBytes !== undefined && { poolSizeBytes: String(poolSizeBytes) }),
    };
    const fresh = join(volumes.root, `.new-${volumeId}`);
    volumes.promise(volumeId, record, size);
    try {
      rmSync(fresh, { recursive: true, force: true });
      mkdirSync(fresh);
      await backend.make(fresh, size, signal);
      volumes.write(fresh, record);
      renameSync(fresh, directory);
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      throw error;
    } finally {
      volumes.release(volumeId);
    }
  }
  const { node, sizeBytes } = volumes.mustGet(volumeId);
  return {
    volumeId,
    capacityBytes: sizeBytes,
    volumeContext: {},
    contentSource: null,
    accessibleTopology: [{ segments: { [TOPOLOGY_KEY_NODE]: node } }],
  };
}

function parsePoolSize(backend: Backend, parameters: Readonly<Record<string, string>>): bigint | undefined {
  for (const name of Object.keys(parameters)) {
    if (name === 'poolSize' || name.startsWith('csi.storage.k8s.io/')) continue;
    const hint = nearest(name, ['poolSize']) ? '; did you mean "poolSize"?' : '; it knows "poolSize"';
    throw new UnionError('INVALID_ARGUMENT', `${backend.name} knows no parameter "${name}"${hint}`);
  }
  if (parameters.poolSize === undefined) return undefined;
  const size = parseQuantity(parameters.poolSize);
  if (!size.ok) throw new UnionError('INVALID_ARGUMENT', `parameter poolSize: ${size.error}`);
  return size.value;
}

/** The scheduler's choice comes first among the preferred. */
function chooseNode(backend: Backend, { accessibilityRequirements }: CreateVolumeRequest): string {
  const terms = [...(accessibilityRequirements?.preferred ?? []), ...(accessibilityRequirements?.requisite ?? [])];
  const node = terms.map((term) => term.segments?.[TOPOLOGY_KEY_NODE]).find((name) => name !== undefined);
  if (node !== undefined) return node;
  throw new UnionError(
    'UNAVAILABLE',
    `${backend.name}: no node to make the volume on; wait until a node is registered`,
  );
}

/** Whole filesystem blocks. */
function roundUp(size: bigint): bigint {
  const least = size < MINIMUM_BYTES ? MINIMUM_BYTES : size;
  return ((least + 4095n) / 4096n) * 4096n;
}

function nodeOf(volumes: Volumes, nodeName: string): CsiNode {
  const { backend, mutex } = volumes;
  return {
    capabilities: () => Promise.resolve(new Set(backend.stages ? ['STAGE_UNSTAGE_VOLUME'] : [])),
    getInfo: () =>
      Promise.resolve({
        nodeId: nodeName,
        maxVolumesPerNode: '0',
        accessibleTopology: { segments: { [TOPOLOGY_KEY_NODE]: nodeName } },
      }),
    stageVolume: ({ volumeId = '', stagingTargetPath = '', volumeCapability }: NodeStageVolumeRequest, signal) =>
      mutex.run(volumeId, async () => {
        volumes.mustGet(volumeId);
        if (mountAt(stagingTargetPath)) return;
        const flags = volumeCapability?.mount?.mountFlags ?? [];
        await backend.stage(volumes.directory(volumeId), stagingTargetPath, flags, signal);
      }),
    unstageVolume: (volumeId, stagingPath, signal) =>
      mutex.run(volumeId, async () => await unmountAll(stagingPath, systemClock, signal)),
    publishVolume: ({ volumeId = '', stagingTargetPath = '', targetPath = '', readonly }, signal) =>
      mutex.run(volumeId, async () => {
        volumes.mustGet(volumeId);
        if (mountAt(targetPath)) return;
        if (backend.stages && !mountAt(stagingTargetPath)) {
          throw new UnionError(
            'FAILED_PRECONDITION',
            `volume ${volumeId} is not mounted at ${stagingTargetPath}; stage it`,
          );
        }
        mkdirSync(targetPath, { recursive: true });
        const source = backend.publishSource(volumes.directory(volumeId), stagingTargetPath);
        signal.throwIfAborted();
        await bindMount({ source, target: targetPath, readOnly: readonly ?? false });
      }),
    unpublishVolume: (volumeId, targetPath, signal) =>
      mutex.run(volumeId, async () => {
        await unmountAll(targetPath, systemClock, signal);
        if (existsSync(targetPath)) rmdirSync(targetPath);
      }),
    expandVolume: ({ volumeId = '' }, signal) =>
      mutex.run(volumeId, async () => {
        volumes.mustGet(volumeId);
        await backend.fill(volumes.directory(volumeId), signal);
      }),
    close: () => {},
  };
}
