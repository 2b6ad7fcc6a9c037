/** What the tour shows at its end: where the union is on this machine, and what is on each branch. */
import { type Dirent, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../../base/assert.ts';
import { formatBytes } from '../../base/units.ts';
import {
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  unionAttachments,
  unionVolumes,
} from '../../embedded/api-server/kinds.ts';
import type { Store } from '../../embedded/api-server/store.ts';
import { publishPath } from '../../embedded/kubelet/layout.ts';
import { kubeletDirectory } from '../../embedded/kubelet/log-reader.ts';
import { formatTable } from './progress.ts';

export interface TouredUnion {
  /** The union as the pod sees it. */
  readonly path: string;
  readonly branches: readonly TouredBranch[];
}

interface TouredBranch {
  readonly id: string;
  readonly storageClassName: string;
  readonly capacityBytes: bigint;
  /** The branch as the server sees it: an ordinary directory. */
  readonly path: string;
}

/** Finds the union behind a pod's claim. The pod runs. */
export function findUnion(store: Store, clusterDir: string, pod: { namespace: string; name: string }): TouredUnion {
  const running = store.get(pods, pod);
  const claimName = running?.spec?.volumes?.find((volume) => volume.persistentVolumeClaim)?.persistentVolumeClaim
    ?.claimName;
  assert(running?.spec?.nodeName && claimName, `pod ${pod.name} runs with a claim`);
  const claim = store.get(persistentVolumeClaims, { namespace: pod.namespace, name: claimName });
  const volumeName = claim?.spec?.volumeName;
  assert(volumeName, `claim ${claimName} is bound`);
  const handle = store.get(persistentVolumes, { name: volumeName })?.spec?.csi?.volumeHandle;
  const union = handle === undefined ? undefined : store.get(unionVolumes, { name: handle });
  const attachment = store.list(unionAttachments).find(({ spec }) => spec.volume === handle);
  assert(union && attachment?.status?.pod, `volume ${handle} is attached`);
  const kubelet = kubeletDirectory(clusterDir, running.spec.nodeName);
  const serverUid = attachment.status.pod.uid;
  return {
    path: publishPath(kubelet, running.metadata.uid ?? '', volumeName),
    branches: union.spec.branches.map((branch) => {
      const status = union.status?.branches?.find(({ id }) => id === branch.id);
      assert(status?.persistentVolume, `branch ${branch.id} is bound`);
      return {
        id: branch.id,
        storageClassName: branch.storageClassName ?? 'adopted',
        capacityBytes: BigInt(status.capacityBytes ?? 0),
        path: publishPath(kubelet, serverUid, status.persistentVolume),
      };
    }),
  };
}

/** A table of the branches: class, size, what the union's files take, how many they are. */
export function branchTable({ branches }: TouredUnion): string[] {
  const rows = branches.map(({ id, storageClassName, capacityBytes, path }) => {
    const { bytes, files } = usage(path);
    return [id, storageClassName, formatBytes(capacityBytes), formatBytes(bytes), String(files)];
  });
  return formatTable([['BRANCH', 'CLASS', 'SIZE', 'USED', 'FILES'], ...rows]);
}

/** Bytes allocated to, and number of, the files below a branch's root, without what is not the union's. */
function usage(root: string): { bytes: number; files: number } {
  let bytes = 0;
  let files = 0;
  const visit = (directory: string, entries: readonly Dirent[]) => {
    for (const entry of entries) {
      const path = join(directory, entry.name);
      if (directory === root && (entry.name === '.union' || entry.name === 'lost+found')) continue;
      if (entry.isDirectory()) visit(path, readdirSync(path, { withFileTypes: true }));
      else {
        files++;
        bytes += lstatSync(path).blocks * 512;
      }
    }
  };
  visit(root, readdirSync(root, { withFileTypes: true }));
  return { bytes, files };
}
