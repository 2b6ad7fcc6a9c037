/** Where a process in a pod of ours listens, as this node sees it: in the pod's emptyDir volume. */
import { join } from 'node:path';
import type { PodRef } from '../protocol/resources.ts';
import { RUN_VOLUME, SERVER_SOCKET } from '../protocol/server-control.ts';

/** Undefined without a pod. The uid comes from the API and becomes a part of a path: it must be one. */
export function podSocket(kubeletDir: string, pod: PodRef | undefined): string | undefined {
  if (pod === undefined || !/^[0-9a-zA-Z-]+$/.test(pod.uid)) return undefined;
  return join(kubeletDir, 'pods', pod.uid, 'volumes', 'kubernetes.io~empty-dir', RUN_VOLUME, SERVER_SOCKET);
}
