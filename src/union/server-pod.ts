/**
 * The server pod of a volume on a node: mounts the lower claims and runs the union filesystem.
 * The scheduler places it (by node affinity, so that it is counted), kubelet mounts the branches, and the node plugin
 * reaches it through the socket in the volume `run`. It has no network of the host, no token, and only the capabilities
 * that the filesystem uses. Source: kubernetes.md, section 4.
 */
import type { Pod } from '../protocol/objects.ts';
import {
  ANNOTATION_IMAGE,
  type BranchSpec,
  DRIVER_NAME,
  DRIVER_NAMESPACE,
  LABEL_ATTACHMENT,
  LABEL_VOLUME,
  type UnionAttachment,
  type UnionVolume,
} from '../protocol/resources.ts';
import type { ServerConfig } from '../protocol/server-config.ts';
import { SERVER_PORT } from '../protocol/server-pages.ts';
import { isMultiNode } from './access-mode.ts';
import { branchNamespace } from './ids.ts';
import { ownedBy } from './owner.ts';

export interface ServerPodOptions {
  /** The node plugin's own, by digest. */
  readonly image: string;
}

/** Where the server's control socket is, in the pod. */
export const SERVER_SOCKET = '/run/union/server.sock';
/** The pod volume that holds it: part of its path on the node. */
export const SERVER_RUN_VOLUME = 'run';
export const SERVER_PRIORITY_CLASS = 'union-csi-server';

/** While there are consumers the server ignores SIGTERM: they may need this long to go. */
const TERMINATION_GRACE_SECONDS = 600;

/** Allowed by the baseline pod security level. */
const BASELINE_CAPABILITIES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'MKNOD', 'SETFCAP', 'SETGID', 'SETUID'],
  // To keep the others while it acts as a caller: what the caller may do through a further group, such as fsGroup, the kernel has
  // checked, and branches would refuse.
  'SETPCAP',
];
/** Files by handle, and passthrough: where the namespace is our own. */
const DRIVER_CAPABILITIES = [...BASELINE_CAPABILITIES, 'DAC_READ_SEARCH', 'SYS_ADMIN'];

/** `name`: the attachment's, unless another of its pods has that. */
export function serverPod(
  volume: UnionVolume,
  attachment: UnionAttachment,
  { image, name = attachment.metadata.name }: ServerPodOptions & { readonly name?: string },
): Pod {
  const namespace = branchNamespace(volume.spec);
  const own = namespace === DRIVER_NAMESPACE;
  const branches = boundBranches(volume);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: {
        [LABEL_VOLUME]: volume.metadata.name,
        [LABEL_ATTACHMENT]: attachment.metadata.name,
        'app.kubernetes.io/name': 'union-csi-server',
        'app.kubernetes.io/managed-by': DRIVER_NAME,
      },
      annotations: {
        [ANNOTATION_IMAGE]: image,
        // The socket's directory holds nothing that a node's removal would lose.
        'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes': SERVER_RUN_VOLUME,
      },
      // Without a controlling owner `kubectl drain` refuses to go on.
      ownerReferences: ownedBy('UnionAttachment', attachment),
    },
    spec: {
      ...besideUsers(attachment.spec.node),
      containers: [
        {
          name: 'server',
          image,
          command: ['union-csi', 'server'],
          args: [
            ...['--socket', SERVER_SOCKET, '--config', JSON.stringify(serverConfig(volume))],
            ...['--metrics-port', String(SERVER_PORT), '--metrics-host', '$(POD_IP)', '--pod-uid', '$(POD_UID)'],
          ],
          env: [field('POD_IP', 'status.podIP'), field('POD_UID', 'metadata.uid')],
          ports: [{ name: 'metrics', containerPort: SERVER_PORT }],
          // No liveness probe: a server that is slow is better than one that was killed.
          readinessProbe: {
            httpGet: { path: '/readyz', port: 'metrics' },
            initialDelaySeconds: 2,
            periodSeconds: 5,
            timeoutSeconds: 5,
          },
          resources: { requests: { cpu: '20m', memory: '128Mi' } },
          securityContext: {
            runAsUser: 0,
            runAsGroup: 0,
            readOnlyRootFilesystem: true,
            // The API server refuses `false` beside SYS_ADMIN.
            ...(own ? {} : { allowPrivilegeEscalation: false }),
            capabilities: { drop: ['ALL'], add: own ? DRIVER_CAPABILITIES : BASELINE_CAPABILITIES },
          },
          volumeMounts: [
            { name: SERVER_RUN_VOLUME, mountPath: '/run/union' },
            ...branches.map(({ id, mode }) => ({ name: id, mountPath: pathOf(id), readOnly: mode === 'RO' })),
          ],
        },
      ],
      volumes: [
        { name: SERVER_RUN_VOLUME, emptyDir: {} },
        ...branches.map(({ id, claim }) => ({ name: id, persistentVolumeClaim: { claimName: claim.name } })),
      ],
    },
  };
}

/** Of a pod that must be on a node as long as somebody uses the union there. */
export function besideUsers(node: string): Omit<NonNullable<Pod['spec']>, 'containers'> {
  return {
    affinity: { nodeAffinity: onNode(node) },
    tolerations: [{ operator: 'Exists' }],
    priorityClassName: SERVER_PRIORITY_CLASS,
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: TERMINATION_GRACE_SECONDS,
    // So that the server is not process 1, which misses a SIGTERM that comes before its handler and stays to the end of grace.
    shareProcessNamespace: true,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
  };
}

export function serverConfig(volume: UnionVolume): ServerConfig {
  const { spec, metadata } = volume;
  const branches = boundBranches(volume);
  const shared = spec.accessModes.some(isMultiNode) || branches.some((branch) => branch.shared === true);
  return {
    volumeId: metadata.name,
    branches: branches.map(({ id, mode, minFreeSpaceBytes }) => ({
      id,
      path: pathOf(id),
      mode,
      minFreeSpaceBytes: Number(minFreeSpaceBytes ?? 0),
    })),
    policies: spec.policies,
    passthrough: branchNamespace(spec) === DRIVER_NAMESPACE,
    cache: shared ? 'shared' : 'exclusive',
  };
}

/** Those that pods can mount. A branch that is added to a running server comes through a pod of its own (feeder-pod.ts). */
export function boundBranches({ spec, status }: UnionVolume): readonly BranchSpec[] {
  const bound = new Set(status?.branches?.filter(({ phase }) => phase === 'Bound').map(({ id }) => id));
  return spec.branches.filter(({ id }) => bound.has(id));
}

export function pathOf(branchId: string): string {
  return `/branches/${branchId}`;
}

function field(name: string, fieldPath: string) {
  return { name, valueFrom: { fieldRef: { fieldPath } } };
}

function onNode(name: string) {
  const matchFields = [{ key: 'metadata.name', operator: 'In', values: [name] }];
  return { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchFields }] } };
}
