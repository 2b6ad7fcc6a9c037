/**
 * A node's volume manager: brings a pod's volumes into place and takes them away, through the drivers' Node services.
 *
 * The records on disk, written before each step and removed after it is undone, are the only memory, as kubelet's are:
 *   <pod>/volumes/kubernetes.io~csi/<pv>/vol_data.json   this pod uses the volume; its `mount` may be there
 *   <staging directory>/vol_data.json                    the volume may be staged
 * A volume is unstaged when no pod's record names it, and then leaves node.status.volumesInUse, so it may be detached.
 * Directories of mounts are removed with rmdir, never recursively.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import { KeyedMutex } from '../../base/keyed-mutex.ts';
import { mountAt } from '../../host/mountinfo.ts';
import { replaceFile } from '../../host/replace-file.ts';
import type { Node, PersistentVolume, Pod } from '../../protocol/objects.ts';
import { nodes, persistentVolumeClaims, persistentVolumes, volumeAttachments } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import { attachmentName, needsAttach } from '../sidecars/attacher.ts';
import { volumeCapability } from '../sidecars/capability.ts';
import { isBound, NotYet } from '../sidecars/sidecar.ts';
import {
  csiVolumeDirectory,
  csiVolumesDirectory,
  emptyDirPath,
  publishPath,
  stagingDirectory,
  stagingPath,
  stagingRoot,
  uniqueVolumeName,
  type VolumeKey,
} from './layout.ts';
import { setVolumeInUse } from './node-object.ts';
import type { Plugins } from './plugins.ts';
import { checkVolumeMode } from './pod-command.ts';

/** vol_data.json, with kubelet's names for what it holds. */
interface VolumeData {
  readonly driverName: string;
  readonly volumeHandle: string;
  readonly specVolID: string;
}

type PodVolume = NonNullable<NonNullable<Pod['spec']>['volumes']>[number];

export interface VolumeManagerOptions {
  readonly store: Store;
  readonly nodeName: string;
  readonly kubeletDir: string;
  readonly plugins: Plugins;
  /** A pod let go of a volume: if it was the last, it is to be released. */
  readonly onUnpublished: (key: VolumeKey) => void;
}

export class VolumeManager {
  readonly #store: Store;
  readonly #nodeName: string;
  readonly #kubeletDir: string;
  readonly #plugins: Plugins;
  readonly #onUnpublished: (key: VolumeKey) => void;
  readonly #mutex = new KeyedMutex();

  constructor(options: VolumeManagerOptions) {
    this.#store = options.store;
    this.#nodeName = options.nodeName;
    this.#kubeletDir = options.kubeletDir;
    this.#plugins = options.plugins;
    this.#onUnpublished = options.onUnpublished;
  }

  /** Brings all volumes of a pod into place; resolves to where each is on the node. Repeatable. */
  async mount(pod: Pod, signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    const volumes = pod.spec?.volumes ?? [];
    const paths = await settled(volumes.map((volume) => this.#mountOne(pod, volume, signal)));
    return new Map(volumes.map(({ name }, index) => [name, paths[index]!]));
  }

  async #mountOne(pod: Pod, volume: PodVolume, signal: AbortSignal): Promise<string> {
    if (!volume.persistentVolumeClaim) checkVolumeMode(pod, volume.name, 'Filesystem');
    if (volume.emptyDir) {
      const path = emptyDirPath(this.#kubeletDir, pod.metadata.uid!, volume.name);
      mkdirSync(path, { recursive: true, mode: 0o777 });
      return path;
    }
    if (volume.hostPath) {
      if (volume.hostPath.type === 'DirectoryOrCreate') mkdirSync(volume.hostPath.path, { recursive: true });
      return volume.hostPath.path;
    }
    const source = volume.persistentVolumeClaim;
    if (!source) {
      const message = `volume "${volume.name}" is of a kind that the embedded kubelet does not have; use emptyDir, hostPath or persistentVolumeClaim`;
      throw new UnionError('INVALID_ARGUMENT', message);
    }
    const ref = { namespace: pod.metadata.namespace!, name: source.claimName };
    const claim = this.#store.get(persistentVolumeClaims, ref);
    if (!claim || !isBound(claim)) {
      throw new NotYet(`persistentvolumeclaim "${source.claimName}" is not bound yet`);
    }
    const bound = this.#store.get(persistentVolumes, { name: claim.spec!.volumeName! });
    if (!bound) throw new UnionError('UNAVAILABLE', `persistentvolume "${claim.spec!.volumeName}" not found`);
    checkVolumeMode(pod, volume.name, bound.spec?.volumeMode ?? 'Filesystem');
    const plain = bound.spec?.local?.path ?? bound.spec?.hostPath?.path;
    if (plain !== undefined) return plain;
    return await this.#mountCsi({ pod, volume: bound, readOnly: source.readOnly ?? false }, signal);
  }

  async #mountCsi(
    use: { pod: Pod; volume: PersistentVolume; readOnly: boolean },
    signal: AbortSignal,
  ): Promise<string> {
    const csi = use.volume.spec?.csi;
    if (!csi)
      throw new UnionError('INVALID_ARGUMENT', `persistentvolume "${use.volume.metadata.name}" is not a CSI volume`);
    const uid = use.pod.metadata.uid!;
    const name = use.volume.metadata.name;
    return await this.#mutex.run(mutexKey(csi), async () => {
      // Before the attachment is looked at, so that nobody who saw the volume unused detaches it afterwards.
      setVolumeInUse(this.#store, this.#nodeName, uniqueVolumeName(csi), true);
      const { node, publishContext, capabilities } = await this.#prepare(csi, signal);
      const request = {
        volumeId: csi.volumeHandle,
        publishContext,
        volumeCapability: volumeCapability(use.volume, capabilities),
        volumeContext: csi.volumeAttributes ?? {},
      };
      const data = { driverName: csi.driver, volumeHandle: csi.volumeHandle, specVolID: name };
      writeData(csiVolumeDirectory(this.#kubeletDir, uid, name), data);
      const stagingTargetPath = capabilities.has('STAGE_UNSTAGE_VOLUME') ? stagingPath(this.#kubeletDir, csi) : '';
      if (stagingTargetPath) {
        writeData(stagingDirectory(this.#kubeletDir, csi), data);
        // A mount whose server is gone answers nothing: it is the driver's to mend, and not to be touched here.
        if (!mountAt(stagingTargetPath)) mkdirSync(stagingTargetPath, { recursive: true, mode: 0o750 });
        await node.stageVolume({ ...request, stagingTargetPath }, signal);
      }
      const targetPath = publishPath(this.#kubeletDir, uid, name);
      const readonly = use.readOnly || (csi.readOnly ?? false);
      await node.publishVolume({ ...request, stagingTargetPath, targetPath, readonly }, signal);
      return targetPath;
    });
  }

  /** What a mount begins with. Fails while the driver or the attachment is not there; nothing is recorded before. */
  async #prepare(key: VolumeKey, signal: AbortSignal) {
    try {
      const node = this.#plugins.get(key.driver);
      const publishContext = this.#publishContext(key);
      return { node, publishContext, capabilities: await node.capabilities(signal) };
    } catch (error) {
      // The pod may go without having used the volume, and leaves no record that would be undone.
      this.#onUnpublished(key);
      throw error;
    }
  }

  /** What ControllerPublishVolume gave; UNAVAILABLE while the volume is not attached. */
  #publishContext({ driver, volumeHandle }: VolumeKey): Record<string, string> {
    if (!needsAttach(this.#store, driver)) return {};
    const name = attachmentName(driver, volumeHandle, this.#nodeName);
    const attachment = this.#store.get(volumeAttachments, { name });
    if (attachment?.status?.attached && attachment.metadata.deletionTimestamp === undefined) {
      return attachment.status.attachmentMetadata ?? {};
    }
    const why = attachment?.status?.attachError?.message;
    const message = `volume ${volumeHandle} is not attached to node ${this.#nodeName} yet`;
    throw why === undefined ? new NotYet(message) : new UnionError('UNAVAILABLE', `${message}: ${why}`);
  }

  /** Takes all CSI volumes of a pod away; `onUnpublished` is told of each. Repeatable. */
  async unmount(podUid: string, signal: AbortSignal): Promise<void> {
    const directory = csiVolumesDirectory(this.#kubeletDir, podUid);
    await settled(
      entries(directory).map(async (name) => {
        const volumeDirectory = join(directory, name);
        const data = readData(volumeDirectory);
        if (!data) return removeEmpty(volumeDirectory);
        const key = { driver: data.driverName, volumeHandle: data.volumeHandle };
        await this.#mutex.run(mutexKey(key), async () => {
          const node = this.#plugins.get(key.driver);
          const targetPath = publishPath(this.#kubeletDir, podUid, data.specVolID);
          await node.unpublishVolume(key.volumeHandle, targetPath, signal);
          if (existsSync(targetPath)) rmdirSync(targetPath);
          rmSync(join(volumeDirectory, 'vol_data.json'));
          removeEmpty(volumeDirectory);
        });
        this.#onUnpublished(key);
      }),
    );
    removeEmpty(directory);
  }

  /** The volumes that may be staged here: after a restart some may be left without a pod. */
  staged(): readonly VolumeKey[] {
    const drivers = stagingRoot(this.#kubeletDir);
    return entries(drivers).flatMap((driver) =>
      entries(join(drivers, driver)).flatMap((hash) => keyIn(join(drivers, driver, hash))),
    );
  }

  /** After a restart: node.status.volumesInUse is what the records say. */
  reportInUse(): void {
    const volumesInUse = [...new Set([...this.staged(), ...this.#published()].map(uniqueVolumeName))];
    const change = (node: Node): Node => ({ ...node, status: { ...node.status, volumesInUse } });
    this.#store.modify(nodes, { name: this.#nodeName }, change, { subresource: 'status' });
  }

  /** Unstages a volume if no pod uses it any more. Repeatable. */
  async release(key: VolumeKey, signal: AbortSignal): Promise<void> {
    await this.#mutex.run(mutexKey(key), async () => {
      if (this.#isUsed(key)) return;
      const directory = stagingDirectory(this.#kubeletDir, key);
      if (readData(directory)) {
        const path = stagingPath(this.#kubeletDir, key);
        await this.#plugins.get(key.driver).unstageVolume(key.volumeHandle, path, signal);
        if (existsSync(path)) rmdirSync(path);
        rmSync(join(directory, 'vol_data.json'));
        removeEmpty(directory);
      }
      setVolumeInUse(this.#store, this.#nodeName, uniqueVolumeName(key), false);
    });
  }

  #isUsed(key: VolumeKey): boolean {
    return this.#published().some((other) => mutexKey(other) === mutexKey(key));
  }

  /** The volumes that pods' records name. */
  #published(): readonly VolumeKey[] {
    return entries(join(this.#kubeletDir, 'pods')).flatMap((uid) => {
      const directory = csiVolumesDirectory(this.#kubeletDir, uid);
      return entries(directory).flatMap((name) => keyIn(join(directory, name)));
    });
  }
}

function mutexKey({ driver, volumeHandle }: VolumeKey): string {
  return `${driver} ${volumeHandle}`;
}

/** As Promise.all, but nothing is still under way when it rejects. */
async function settled<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(work);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

function writeData(directory: string, data: VolumeData): void {
  mkdirSync(directory, { recursive: true, mode: 0o750 });
  replaceFile(join(directory, 'vol_data.json'), JSON.stringify(data));
}

function readData(directory: string): VolumeData | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, 'vol_data.json'), 'utf8'));
  } catch {
    return undefined;
  }
}

function keyIn(directory: string): readonly VolumeKey[] {
  const data = readData(directory);
  return data ? [{ driver: data.driverName, volumeHandle: data.volumeHandle }] : [];
}

function entries(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Fails on anything in it but what a killed writeData left. */
function removeEmpty(directory: string): void {
  if (!existsSync(directory)) return;
  rmSync(join(directory, 'vol_data.json.new'), { force: true });
  rmdirSync(directory);
}
