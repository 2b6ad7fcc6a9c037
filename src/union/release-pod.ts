/**
 * The pod that takes the union's records off an adopted claim before it is given back: the claim's files are on a volume that
 * only a pod can mount. Source: kubernetes.md, section 1, "Adoption".
 */
import type { Pod } from '../protocol/objects.ts';
import { type BranchSpec, DRIVER_NAME, LABEL_BRANCH, LABEL_VOLUME, type UnionVolume } from '../protocol/resources.ts';
import { lowerClaimName } from './ids.ts';
import { isOwnedBy, ownedBy } from './owner.ts';
import { SERVER_PRIORITY_CLASS, type ServerPodOptions } from './server-pod.ts';

const BRANCH_PATH = '/branch';

/** In the claim's namespace. */
export function releasePod(volume: UnionVolume, branch: BranchSpec, options: ServerPodOptions): Pod {
  const { metadata } = volume;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: releasePodName(metadata.name, branch.id),
      namespace: branch.claim.namespace,
      labels: {
        [LABEL_VOLUME]: metadata.name,
        [LABEL_BRANCH]: branch.id,
        'app.kubernetes.io/name': 'union-csi-release',
        'app.kubernetes.io/managed-by': DRIVER_NAME,
      },
      // It goes with the union.
      ownerReferences: ownedBy('UnionVolume', volume),
    },
    spec: {
      tolerations: [{ operator: 'Exists' }],
      priorityClassName: SERVER_PRIORITY_CLASS,
      restartPolicy: 'OnFailure',
      terminationGracePeriodSeconds: 1,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'release',
          image: options.image,
          command: ['union-csi', 'release'],
          args: ['--volume', metadata.name, BRANCH_PATH],
          resources: { requests: { cpu: '10m', memory: '64Mi' } },
          securityContext: {
            runAsUser: 0,
            runAsGroup: 0,
            readOnlyRootFilesystem: true,
            allowPrivilegeEscalation: false,
            capabilities: { drop: ['ALL'], add: ['DAC_OVERRIDE', 'FOWNER'] },
          },
          volumeMounts: [{ name: 'branch', mountPath: BRANCH_PATH }],
        },
      ],
      volumes: [{ name: 'branch', persistentVolumeClaim: { claimName: branch.claim.name } }],
    },
  };
}

function releasePodName(volumeId: string, branchId: string): string {
  return `${lowerClaimName(volumeId, branchId)}-release`;
}

export function isReleasePod(volume: UnionVolume, branch: BranchSpec, pod: Pod): boolean {
  return pod.metadata.name === releasePodName(volume.metadata.name, branch.id) && isOwnedBy(volume, pod);
}
