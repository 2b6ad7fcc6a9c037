/** Copies of what GetCapacity looks at: it is asked for every class and node, again and again. */
import type { Logger } from '../base/logger.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import { createInformer, type Informer } from '../kubernetes/informer.ts';
import { CSI_STORAGE_CAPACITY, NODE, PERSISTENT_VOLUME, STORAGE_CLASS } from '../kubernetes/kinds.ts';
import type { CSIStorageCapacity, Node, PersistentVolume, StorageClass } from '../protocol/objects.ts';

export interface Room {
  readonly storageClasses: Informer<StorageClass>;
  readonly persistentVolumes: Informer<PersistentVolume>;
  readonly storageCapacities: Informer<CSIStorageCapacity>;
  readonly nodes: Informer<Node>;
}

/** Each is to be started. */
export function watchRoom(client: KubeClient, log: Logger): Room {
  return {
    storageClasses: createInformer({ client, kind: STORAGE_CLASS, log }),
    persistentVolumes: createInformer({ client, kind: PERSISTENT_VOLUME, log }),
    storageCapacities: createInformer({ client, kind: CSI_STORAGE_CAPACITY, log }),
    nodes: createInformer({ client, kind: NODE, log }),
  };
}
