/**
 * The pod that mounts a branch which was added while a server runs, and lends it the branch's directory through the socket in its volume
 * `run`. It goes after the server: what a container has mounted is its own, and ends with it only when nobody works in it.
 * Source: kubernetes.md, section 4.
 */
import type { Pod } from '../protocol/objects.ts';
import {
  type BranchSpec,
  DRIVER_NAME,
  LABEL_ATTACHMENT,
  LABEL_BRANCH,
  LABEL_VOLUME,
  type UnionAttachment,
  type UnionVolume,
} from '../protocol/resources.ts';
import { branchNamespace } from './ids.ts';
import { ownedBy } from './owner.ts';
import { besideUsers, pathOf, SERVER_RUN_VOLUME, SERVER_SOCKET, type ServerPodOptions } from './server-pod.ts';

export interface FedBranch {
  readonly volume: UnionVolume;
  readonly attachment: UnionAttachment;
  readonly branch: BranchSpec;
}

export function feederPod({ volume, attachment, branch }: FedBranch, options: ServerPodOptions): Pod {
  const path = pathOf(branch.id);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${attachment.metadata.name}-${branch.id}`,
      namespace: branchNamespace(volume.spec),
      labels: {
        [LABEL_VOLUME]: volume.metadata.name,
        [LABEL_ATTACHMENT]: attachment.metadata.name,
        [LABEL_BRANCH]: branch.id,
        'app.kubernetes.io/name': 'union-csi-feeder',
        'app.kubernetes.io/managed-by': DRIVER_NAME,
      },
      annotations: { 'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes': SERVER_RUN_VOLUME },
      ownerReferences: ownedBy('UnionAttachment', attachment),
    },
    spec: {
      ...besideUsers(attachment.spec.node),
      containers: [
        {
          name: 'feeder',
          image: options.image,
          command: ['union-csi', 'feeder'],
          args: ['--socket', SERVER_SOCKET, path],
          resources: { requests: { cpu: '5m', memory: '48Mi' } },
          securityContext: {
            runAsUser: 0,
            runAsGroup: 0,
            readOnlyRootFilesystem: true,
            allowPrivilegeEscalation: false,
            capabilities: { drop: ['ALL'] },
          },
          volumeMounts: [
            { name: SERVER_RUN_VOLUME, mountPath: '/run/union' },
            { name: branch.id, mountPath: path, readOnly: branch.mode === 'RO' },
          ],
        },
      ],
      volumes: [
        { name: SERVER_RUN_VOLUME, emptyDir: {} },
        { name: branch.id, persistentVolumeClaim: { claimName: branch.claim.name } },
      ],
    },
  };
}
