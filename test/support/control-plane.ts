/**
 * A control plane in this process: the embedded API server with our CRDs, two nodes, and the least of what others do on a
 * cluster: binds claims of class `plain` to volumes of the right size, grows them, starts and ends pods.
 * Each of these helpers can be held back, so that tests see what is pending.
 */
import { globSync, readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { silentLogger } from '../../src/base/logger.ts';
import {
  customResourceDefinitions,
  namespaces,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
} from '../../src/embedded/api-server/kinds.ts';
import { startApiServer } from '../../src/embedded/api-server/server.ts';
import { Store } from '../../src/embedded/api-server/store.ts';
import { createKubeClient, type KubeClient } from '../../src/kubernetes/client.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod } from '../../src/protocol/objects.ts';
import { DRIVER_NAMESPACE } from '../../src/protocol/resources.ts';

export interface ControlPlane {
  readonly store: Store;
  readonly url: string;
  readonly client: KubeClient;
  /** While true, claims stay pending and do not grow. */
  holdClaims: boolean;
  /** While true, pods are not started. */
  holdPods: boolean;
  /** While true, pods that are deleted do not end. */
  holdPodDeletion: boolean;
  /** Looks at everything again, after a hold was lifted. */
  kick(): void;
  close(): Promise<void>;
}

export async function startControlPlane(): Promise<ControlPlane> {
  const store = new Store();
  for (const file of globSync(`${import.meta.dirname}/../../deploy/base/crds/*.yaml`)) {
    for (const document of parseAllDocuments(readFileSync(file, 'utf8'))) {
      store.create(customResourceDefinitions, document.toJS());
    }
  }
  for (const name of ['default', DRIVER_NAMESPACE]) store.create(namespaces, { metadata: { name } });
  for (const name of ['node-a', 'node-b']) store.create(nodes, { metadata: { name } });
  store.create(storageClasses, {
    metadata: { name: 'plain' },
    provisioner: 'plain.example.com',
    allowVolumeExpansion: true,
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'Immediate',
  });
  const api = await startApiServer({ store, port: 0, readLog: () => undefined as never, log: silentLogger });
  const client = createKubeClient({ server: api.url, tls: {}, authorization: async () => undefined });

  const plane: ControlPlane = {
    ...{ store, url: api.url, client },
    ...{ holdClaims: false, holdPods: false, holdPodDeletion: false },
    kick() {
      for (const claim of store.list(persistentVolumeClaims)) serveClaim(plane, claim);
      for (const pod of store.list(pods)) servePod(plane, pod);
    },
    async close() {
      stopClaims();
      stopPods();
      client.close();
      await api.close();
      store.close();
    },
  };
  const stopClaims = store.watch(persistentVolumeClaims, {}, ({ type, object }) => {
    if (type === 'DELETED') reclaim(store, object);
    else serveClaim(plane, object);
  });
  const stopPods = store.watch(pods, {}, ({ type, object }) => {
    if (type === 'ADDED' || type === 'MODIFIED') servePod(plane, object);
  });
  return plane;
}

function serveClaim(plane: ControlPlane, seen: PersistentVolumeClaim): void {
  const { store } = plane;
  const claim = store.get(persistentVolumeClaims, seen.metadata);
  if (claim?.metadata.deletionTimestamp) {
    unprotect(store, persistentVolumeClaims, claim.metadata);
    return;
  }
  if (plane.holdClaims || claim?.spec?.storageClassName !== 'plain') return;
  const storage = claim.spec.resources?.requests?.storage ?? '0';
  if (claim.status?.phase === 'Bound' && claim.status.capacity?.storage === storage) return;
  const name = `pv-${claim.metadata.uid}`;
  if (store.get(persistentVolumes, { name }) === undefined) {
    store.create(persistentVolumes, {
      metadata: { name },
      spec: {
        capacity: { storage },
        accessModes: claim.spec.accessModes ?? [],
        persistentVolumeReclaimPolicy: 'Delete',
        claimRef: { namespace: claim.metadata.namespace!, name: claim.metadata.name, uid: claim.metadata.uid! },
        csi: { driver: 'plain.example.com', volumeHandle: name },
        storageClassName: 'plain',
      },
    });
  }
  if (claim.spec.volumeName === undefined) {
    store.modify(persistentVolumeClaims, claim.metadata, (object) => {
      object.spec!.volumeName = name;
    });
  }
  store.modify(
    persistentVolumeClaims,
    claim.metadata,
    (object) => {
      object.status = { phase: 'Bound', capacity: { storage }, accessModes: claim.spec?.accessModes ?? [] };
    },
    { subresource: 'status' },
  );
}

function reclaim(store: Store, claim: PersistentVolumeClaim): void {
  const name = claim.spec?.volumeName;
  if (name === undefined || !store.get(persistentVolumes, { name })) return;
  store.delete(persistentVolumes, { name });
  if (store.get(persistentVolumes, { name })) unprotect(store, persistentVolumes, { name });
}

/** Takes away the finalizers of Kubernetes' own protection: here nothing uses what is deleted. */
function unprotect<T extends PersistentVolume | PersistentVolumeClaim>(
  store: Store,
  kind: Parameters<typeof store.modify<T>>[0],
  ref: { readonly namespace?: string | undefined; readonly name: string },
): void {
  store.modify(kind, ref, (object) => {
    const finalizers = object.metadata.finalizers ?? [];
    object.metadata.finalizers = finalizers.filter((finalizer) => !/^kubernetes\.io\/pvc?-protection$/.test(finalizer));
  });
}

function servePod(plane: ControlPlane, seen: Pod): void {
  const { store } = plane;
  const pod = store.get(pods, seen.metadata);
  if (pod === undefined) return;
  if (pod.metadata.deletionTimestamp) {
    if (!plane.holdPodDeletion) store.delete(pods, pod.metadata, { gracePeriodSeconds: 0 });
    return;
  }
  // What is to come to an end does so at once.
  const phase = pod.spec?.restartPolicy === 'OnFailure' ? 'Succeeded' : 'Running';
  if (plane.holdPods || pod.status?.phase === phase) return;
  if (!pod.spec?.nodeName) {
    const terms = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
    const nodeName = terms?.[0]?.matchFields?.[0]?.values?.[0] ?? 'node-a';
    store.modify(pods, pod.metadata, (object) => {
      object.spec!.nodeName = nodeName;
    });
  }
  store.modify(
    pods,
    pod.metadata,
    (object) => {
      object.status = { ...object.status, phase };
    },
    { subresource: 'status' },
  );
}
