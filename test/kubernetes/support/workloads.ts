/** Manifests of what users run: claims, and pods that write and check. */
import type { Pod } from '../../../src/protocol/objects.ts';
import type { UnionVolume } from '../../../src/protocol/resources.ts';
import { eventually } from '../../support/eventually.ts';
import { get, kubectl, list } from './kubectl.ts';
import type { NodeName } from './nodes.ts';

export interface UnionClassOptions {
  readonly name: string;
  readonly parameters: Readonly<Record<string, string>>;
}

export function unionClass({ name, parameters }: UnionClassOptions): object {
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name },
    provisioner: 'union.csi.dev',
    volumeBindingMode: 'WaitForFirstConsumer',
    parameters,
  };
}

export interface ClaimOptions {
  readonly name: string;
  readonly storageClassName: string;
  readonly size: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export function claim({ name, storageClassName, size, annotations = {} }: ClaimOptions): object {
  const spec = { storageClassName, accessModes: ['ReadWriteOnce'], resources: { requests: { storage: size } } };
  return { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { name, annotations }, spec };
}

export interface PodOptions {
  readonly name: string;
  readonly claim: string;
  /** Run by sh in /data, the volume. */
  readonly script: string;
  /** The claim is a device, /dev/data. */
  readonly isDevice?: boolean;
  readonly readOnly?: boolean;
  readonly node?: NodeName;
  /** Where the scheduler takes it if it can. */
  readonly preferred?: NodeName;
}

export function pod(options: PodOptions): object {
  const { name, claim: claimName, script, isDevice, readOnly = false, node, preferred } = options;
  const device = { volumeDevices: [{ name: 'data', devicePath: '/dev/data' }] };
  const directory = { workingDir: '/data', volumeMounts: [{ name: 'data', mountPath: '/data' }] };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name } },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 1,
      ...(node && { nodeSelector: { 'kubernetes.io/hostname': node } }),
      ...(preferred && { affinity: preferring(preferred) }),
      containers: [
        {
          name: 'main',
          image: 'localhost/busybox:1',
          command: ['sh', '-euc', script],
          ...(isDevice ? device : directory),
        },
      ],
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName, readOnly } }],
    },
  };
}

export interface WorkloadOptions extends PodOptions {
  readonly tolerations?: readonly object[];
}

/** One replica of such a pod, for whose place another one is made. */
export function workload(kind: 'Deployment' | 'StatefulSet', options: WorkloadOptions): object {
  const { name, tolerations = [] } = options;
  const { spec, metadata } = pod(options) as Pod;
  return {
    apiVersion: 'apps/v1',
    kind,
    metadata: { name },
    spec: {
      replicas: 1,
      ...(kind === 'Deployment' && { strategy: { type: 'Recreate' } }),
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: metadata.labels },
        spec: { ...spec, restartPolicy: 'Always', tolerations },
      },
    },
  };
}

/** The pod of a workload that is not on its way out. */
export async function podOf(name: string): Promise<Pod | undefined> {
  return (await list<Pod>('pods', '--selector', `app=${name}`)).find(({ metadata }) => !metadata.deletionTimestamp);
}

function preferring(node: NodeName): object {
  const preference = { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] };
  return { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, preference }] } };
}

/** The union of a claim, once it is there. */
export async function unionOf(claimName: string): Promise<UnionVolume | undefined> {
  return (await list<UnionVolume>('unionvolumes')).find(({ spec }) => spec.claim?.name === claimName);
}

/** What it says of itself. */
export async function readiness(claimName: string): Promise<string> {
  const union = await unionOf(claimName);
  return union?.status?.conditions?.find(({ type }) => type === 'Ready')?.message ?? '';
}

/** Waits until the pod has ended well; what it printed. */
export async function ended(name: string, limitMs = 120_000): Promise<string> {
  const phase = await phaseOf(name, (value) => value === 'Succeeded' || value === 'Failed', limitMs);
  const log = await kubectl('logs', name);
  if (phase !== 'Succeeded') throw new Error(`pod ${name} ended with ${phase}: ${log}`);
  return log;
}

export async function running(name: string, limitMs = 120_000): Promise<void> {
  const phase = await phaseOf(name, (value) => value !== undefined && value !== 'Pending', limitMs);
  if (phase !== 'Running') throw new Error(`pod ${name} is ${phase}: ${await kubectl('logs', name)}`);
}

async function phaseOf(name: string, wanted: (phase: string | undefined) => boolean, limitMs: number) {
  const look = async () => {
    const phase = (await get<Pod>('pod', name))?.status?.phase;
    return wanted(phase) ? phase : undefined;
  };
  return await eventually(`the end of waiting for pod ${name}`, look, limitMs).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${await kubectl('describe', 'pod', name)}\n${await kubectl('get', 'pvc')}`);
  });
}

export async function deleted(...args: readonly string[]): Promise<void> {
  await kubectl('delete', ...args, '--wait', '--timeout=120s', '--ignore-not-found');
}
