/**
 * One simulated node: registers itself and its drivers, runs its pods.
 * Stopping it leaves the pods' processes and mounts alone, as stopping a kubelet does.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Pod } from '../../protocol/objects.ts';
import { persistentVolumeClaims, volumeAttachments } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import type { LowerDriver } from '../provisioners/lower-driver.ts';
import { createEventRecorder } from '../sidecars/events.ts';
import { claimsOf, createQueue, follow, keyOf } from '../sidecars/sidecar.ts';
import { expandOnNode } from './expand.ts';
import type { VolumeKey } from './layout.ts';
import { registerNode, renewLease } from './node-object.ts';
import { Plugins } from './plugins.ts';
import { Pods } from './pods.ts';
import { VolumeManager } from './volumes.ts';

export interface KubeletOptions {
  readonly store: Store;
  readonly nodeName: string;
  readonly kubeletDir: string;
  /** Drivers of this process, which need no registration. */
  readonly lowerDrivers: readonly LowerDriver[];
  readonly clock: Clock;
  readonly log: Logger;
}

/** Runs until the signal aborts and the work under way has ended. */
export async function runKubelet(options: KubeletOptions, signal: AbortSignal): Promise<void> {
  const { store, nodeName, kubeletDir, clock, log } = options;
  mkdirSync(join(kubeletDir, 'pods'), { recursive: true });
  registerNode(store, nodeName, clock);
  const events = createEventRecorder(store, 'kubelet', clock);
  const plugins = new Plugins({ store, nodeName, kubeletDir, clock, log, onChange: () => wake() });
  const volumes = new VolumeManager({ store, nodeName, kubeletDir, plugins, onUnpublished: (key) => release(key) });
  const onMounted = (pod: Pod) => {
    for (const claim of claimsOf(pod)) expansions.add(`${pod.metadata.namespace}/${claim}`);
  };
  const pods = new Pods({ store, nodeName, kubeletDir, volumes, events, clock, log, onMounted });
  const unused = createQueue({ clock, log }, 'kubelet.volumes', async (key, s) => {
    const [driver = '', volumeHandle = ''] = key.split(' ');
    await volumes.release({ driver, volumeHandle }, s);
    return undefined;
  });
  const expansions = createQueue({ clock, log }, 'kubelet.expand', (key, s) =>
    expandOnNode({ store, plugins, events, kubeletDir }, key, s),
  );
  function release({ driver, volumeHandle }: VolumeKey): void {
    unused.add(`${driver} ${volumeHandle}`);
  }
  function wake(): void {
    pods.wake();
    // A kubelet that was killed may have left some staged without a pod.
    for (const key of volumes.staged()) release(key);
  }
  volumes.reportInUse();
  for (const driver of options.lowerDrivers) await plugins.register(driver.name, driver.node(nodeName), signal);
  // What mounts wait for.
  follow(store, volumeAttachments, (attachment) => attachment.spec.nodeName === nodeName && pods.wake(), signal);
  follow(store, persistentVolumeClaims, (claim) => expansions.add(keyOf(claim)), signal);
  const parts = [plugins, pods, unused, expansions].map((part) => part.run(signal));
  await Promise.all([...parts, renewLease(store, nodeName, clock, signal)]);
}
