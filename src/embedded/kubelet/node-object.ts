/** The Node object of a kubelet, its lease, and the list of volumes in use that keeps them attached. */
import { arch, cpus, release, totalmem } from 'node:os';
import type { Clock } from '../../base/clock.ts';
import type { Node } from '../../protocol/objects.ts';
import { TOPOLOGY_KEY_NODE } from '../../protocol/resources.ts';
import { leases, nodes } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';

export const LEASE_NAMESPACE = 'kube-node-lease';
const LEASE_SECONDS = 40;
const RENEW_MS = 10_000;

/** Creates the Node, or makes it ready again. */
export function registerNode(store: Store, name: string, clock: Clock): void {
  const machine = arch() === 'x64' ? 'amd64' : arch();
  const labels = {
    [TOPOLOGY_KEY_NODE]: name,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': machine,
  };
  if (!store.get(nodes, { name })) store.create(nodes, { metadata: { name, labels }, spec: {} });
  store.modify(
    nodes,
    { name },
    (node) => ({ ...node, status: { ...node.status, ...readyStatus(name, machine, clock) } }),
    {
      subresource: 'status',
    },
  );
}

function readyStatus(name: string, architecture: string, clock: Clock): NonNullable<Node['status']> {
  const now = new Date(clock.now()).toISOString();
  const resources = { cpu: String(cpus().length), memory: `${Math.floor(totalmem() / 1024)}Ki`, pods: '110' };
  return {
    addresses: [
      { type: 'InternalIP', address: '127.0.0.1' },
      { type: 'Hostname', address: name },
    ],
    capacity: resources,
    allocatable: resources,
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'KubeletReady',
        message: 'the embedded kubelet runs pods as processes of this machine',
        lastHeartbeatTime: now,
        lastTransitionTime: now,
      },
    ],
    nodeInfo: {
      architecture,
      bootID: '',
      containerRuntimeVersion: 'process://1',
      kernelVersion: release(),
      kubeProxyVersion: '',
      kubeletVersion: 'v1.36.0-embedded',
      machineID: '',
      operatingSystem: 'linux',
      osImage: 'this machine',
      systemUUID: '',
    },
  };
}

/** Renews the node's lease until the signal aborts. */
export async function renewLease(store: Store, name: string, clock: Clock, signal: AbortSignal): Promise<void> {
  const ref = { namespace: LEASE_NAMESPACE, name };
  while (!signal.aborted) {
    const renewTime = `${new Date(clock.now()).toISOString().slice(0, -1)}000Z`;
    const spec = { holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime };
    if (store.get(leases, ref)) store.modify(leases, ref, (lease) => ({ ...lease, spec: { ...lease.spec, ...spec } }));
    else store.create(leases, { metadata: ref, spec });
    await clock.sleep(RENEW_MS, signal).catch(() => {});
  }
}

/** Says that a volume is in use, or no longer: before it is mounted, and after it is unmounted for good. */
export function setVolumeInUse(store: Store, nodeName: string, volume: string, inUse: boolean): void {
  store.modify(
    nodes,
    { name: nodeName },
    (node) => {
      const others = (node.status?.volumesInUse ?? []).filter((name) => name !== volume);
      return { ...node, status: { ...node.status, volumesInUse: inUse ? [...others, volume] : others } };
    },
    { subresource: 'status' },
  );
}
