/** The node's share in growing a volume, for drivers that ask for it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import { formatQuantity } from '../../base/units.ts';
import { persistentVolumeClaims, persistentVolumes } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import { capacityOf } from '../sidecars/binding.ts';
import { volumeCapability } from '../sidecars/capability.ts';
import type { EventRecorder } from '../sidecars/events.ts';
import { finishResize, has } from '../sidecars/resizer.ts';
import { refOf } from '../sidecars/sidecar.ts';
import { listDirectories } from './container.ts';
import { publishPath, stagingPath } from './layout.ts';
import type { Plugins } from './plugins.ts';

/** Expands a claim's volume if that is pending and it is staged here. Called when either may be new. */
export async function expandOnNode(
  deps: { store: Store; plugins: Plugins; events: EventRecorder; kubeletDir: string },
  key: string,
  signal: AbortSignal,
): Promise<undefined> {
  const { store, plugins, kubeletDir } = deps;
  const claim = store.get(persistentVolumeClaims, refOf(key));
  if (!claim || !has(claim.status, 'FileSystemResizePending')) return;
  const volume = store.get(persistentVolumes, { name: claim.spec?.volumeName ?? '' });
  const csi = volume?.spec?.csi;
  if (!csi || !existsSync(stagingPath(kubeletDir, csi))) return;
  const isDevice = volume.spec?.volumeMode === 'Block';
  const volumePath = isDevice ? deviceOf(kubeletDir, volume.metadata.name) : stagingPath(kubeletDir, csi);
  if (volumePath === undefined) return;
  const node = plugins.get(csi.driver);
  try {
    await node.expandVolume(
      {
        volumeId: csi.volumeHandle,
        volumePath,
        stagingTargetPath: stagingPath(kubeletDir, csi),
        capacityRange: { requiredBytes: String(capacityOf(volume)) },
        volumeCapability: volumeCapability(volume, await node.capabilities(signal)),
      },
      signal,
    );
  } catch (error) {
    if (!(error instanceof UnionError) || error.code !== 'FAILED_PRECONDITION') throw error;
    // Not while it is mounted: asked again when it is mounted anew.
    deps.events.warning(claim, 'FileSystemResizeFailed', error.message);
    return;
  }
  finishResize(deps, key, formatQuantity(capacityOf(volume)));
}

/** Where some pod has a volume that is mounted nowhere. */
function deviceOf(kubeletDir: string, volume: string): string | undefined {
  const pods = listDirectories(join(kubeletDir, 'pods'));
  return pods.map((uid) => publishPath(kubeletDir, uid, volume)).find((path) => existsSync(path));
}
