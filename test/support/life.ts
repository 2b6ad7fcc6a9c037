/**
 * The life of a union in a cluster, as its objects and mounts tell it: class, claim and pod are made, the pod writes, pod and
 * claim are deleted, everything goes. `STEPS` are its moments in the order in which they come when nothing interferes.
 */
import {
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
  unionAttachments,
  unionVolumes,
  volumeAttachments,
} from '../../src/embedded/api-server/kinds.ts';
import { UNION_FS_TYPE } from '../../src/host/mounter.ts';
import type { MountInfo } from '../../src/host/mountinfo.ts';
import type { KubeObject, PersistentVolume, PersistentVolumeClaim, Pod } from '../../src/protocol/objects.ts';
import {
  ANNOTATION_PROVISIONED,
  DRIVER_NAMESPACE,
  LABEL_BRANCH,
  type UnionAttachment,
  type UnionVolume,
} from '../../src/protocol/resources.ts';
import type { ApiClient } from './api-client.ts';
import type { ClusterProcess } from './cluster-process.ts';
import type { ClusterWatch } from './cluster-watch.ts';
import { eventually } from './eventually.ts';

const namespace = 'default';
const LIMIT_MS = 60_000;

/** What can be seen from outside at one moment. */
export class View {
  readonly #watch: ClusterWatch;
  readonly #cluster: ClusterProcess;

  constructor(watch: ClusterWatch, cluster: ClusterProcess) {
    this.#watch = watch;
    this.#cluster = cluster;
  }

  get claim(): PersistentVolumeClaim | undefined {
    return this.#watch.list(persistentVolumeClaims).find(({ metadata }) => metadata.namespace === namespace);
  }

  get pod(): Pod | undefined {
    return this.#watch.list(pods).find(({ metadata }) => metadata.namespace === namespace);
  }

  get server(): Pod | undefined {
    return this.#watch.list(pods).find(({ metadata }) => metadata.namespace === DRIVER_NAMESPACE);
  }

  get union(): UnionVolume | undefined {
    return this.#watch.list(unionVolumes)[0];
  }

  get attachment(): UnionAttachment | undefined {
    return this.#watch.list(unionAttachments)[0];
  }

  get volumeAttachment() {
    return this.#watch.list(volumeAttachments)[0];
  }

  get volume(): PersistentVolume | undefined {
    return this.#watch.list(persistentVolumes).find(({ spec }) => spec?.claimRef?.namespace === namespace);
  }

  lowerClaim(branch: string): PersistentVolumeClaim | undefined {
    const claims = this.#watch.list(persistentVolumeClaims);
    return claims.find(({ metadata }) => metadata.labels?.[LABEL_BRANCH] === branch);
  }

  lowerVolume(branch: string): PersistentVolume | undefined {
    const volumes = this.#watch.list(persistentVolumes);
    return volumes.find(({ spec }) => spec?.claimRef?.name?.endsWith(`-${branch}`));
  }

  /** The mount of the union at its staging path, or for its pod; those of lower volumes likewise. */
  mount(where: 'staged' | 'published', what: 'union' | 'lower'): MountInfo | undefined {
    const folder = where === 'staged' ? '/plugins/kubernetes.io/csi/' : '/volumes/kubernetes.io~csi/';
    return this.#cluster
      .mounts()
      .find(
        ({ mountpoint, fsType }) => mountpoint.includes(folder) && (fsType === UNION_FS_TYPE) === (what === 'union'),
      );
  }

  /** Where the pod's volume is mounted for it. */
  get published(): string {
    return this.mount('published', 'union')?.mountpoint ?? '';
  }

  /** Nothing of the life is left. */
  get isEmpty(): boolean {
    const kinds = [pods, persistentVolumeClaims, persistentVolumes, volumeAttachments, unionVolumes, unionAttachments];
    return kinds.every((kind) => this.#watch.list<KubeObject>(kind).length === 0);
  }
}

export interface Step {
  readonly name: string;
  /** Looked at while the life is on its way up, or down. */
  readonly way: 'up' | 'down';
  readonly reached: (view: View) => boolean;
}

const up = (name: string, reached: Step['reached']): Step => ({ name, way: 'up', reached });
const down = (name: string, reached: Step['reached']): Step => ({ name, way: 'down', reached });
const isDeleted = (object: KubeObject | undefined) => !object || object.metadata.deletionTimestamp !== undefined;

export const STEPS: readonly Step[] = [
  up('the claim is there', (view) => view.claim !== undefined),
  up('the pod is there', (view) => view.pod !== undefined),
  up('a node is chosen for the claim', (view) => {
    return view.claim?.metadata.annotations?.['volume.kubernetes.io/selected-node'] !== undefined;
  }),
  up('CreateVolume is about to be called', (view) => {
    return view.claim?.metadata.finalizers?.includes('embedded.union.csi.dev/provisioning') === true;
  }),
  up('the UnionVolume is there', (view) => view.union !== undefined),
  up('the first lower claim is there', (view) => view.lowerClaim('b0') !== undefined),
  up('the last lower claim is there', (view) => view.lowerClaim('b1') !== undefined),
  up('the first lower volume is there', (view) => view.lowerVolume('b0') !== undefined),
  up('the last lower volume is there', (view) => view.lowerVolume('b1') !== undefined),
  up('the first lower claim is bound', (view) => view.lowerClaim('b0')?.status?.phase === 'Bound'),
  up('the last lower claim is bound', (view) => view.lowerClaim('b1')?.status?.phase === 'Bound'),
  up('the UnionVolume is ready', (view) => view.union?.status?.phase === 'Ready'),
  up('the UnionVolume is handed out', (view) => {
    return view.union?.metadata.annotations?.[ANNOTATION_PROVISIONED] !== undefined;
  }),
  up('the volume is there', (view) => view.volume !== undefined),
  up('the claim is bound', (view) => view.claim?.status?.phase === 'Bound'),
  up('the pod is scheduled', (view) => view.pod?.spec?.nodeName !== undefined),
  up('the VolumeAttachment is there', (view) => view.volumeAttachment !== undefined),
  up('the UnionAttachment is there', (view) => view.attachment !== undefined),
  up('the server pod is there', (view) => view.server !== undefined),
  up('the server pod is scheduled', (view) => view.server?.spec?.nodeName !== undefined),
  up('the UnionAttachment is scheduled', (view) => /Scheduled|Running/.test(view.attachment?.status?.phase ?? '')),
  up('the volume is attached', (view) => view.volumeAttachment?.status?.attached === true),
  up('a lower volume is staged', (view) => view.mount('staged', 'lower') !== undefined),
  up('a lower volume is published', (view) => view.mount('published', 'lower') !== undefined),
  up('the server pod runs', (view) => view.server?.status?.phase === 'Running'),
  up('the UnionAttachment runs', (view) => view.attachment?.status?.phase === 'Running'),
  up('the union is staged', (view) => view.mount('staged', 'union') !== undefined),
  up('the union is published', (view) => view.mount('published', 'union') !== undefined),
  up('the pod runs', (view) => view.pod?.status?.phase === 'Running'),
  down('the pod is deleted', (view) => isDeleted(view.pod)),
  down('the claim is deleted', (view) => isDeleted(view.claim)),
  down('the union is unpublished', (view) => view.mount('published', 'union') === undefined),
  down('the union is unstaged', (view) => view.mount('staged', 'union') === undefined),
  down('the pod is gone', (view) => view.pod === undefined),
  down('the claim is gone', (view) => view.claim === undefined),
  down('the VolumeAttachment is deleted', (view) => isDeleted(view.volumeAttachment)),
  down('the UnionAttachment is deleted', (view) => isDeleted(view.attachment)),
  down('the server pod is deleted', (view) => isDeleted(view.server)),
  down('the lower volumes are unpublished', (view) => view.mount('published', 'lower') === undefined),
  down('the lower volumes are unstaged', (view) => view.mount('staged', 'lower') === undefined),
  down('the server pod is gone', (view) => view.server === undefined),
  down('the UnionAttachment is gone', (view) => view.attachment === undefined),
  down('the VolumeAttachment is gone', (view) => view.volumeAttachment === undefined),
  down('the volume is released', (view) => !view.volume || view.volume.status?.phase === 'Released'),
  down('the UnionVolume is deleted', (view) => isDeleted(view.union)),
  down('the first lower claim is gone', (view) => !view.lowerClaim('b0')),
  down('the last lower claim is gone', (view) => !view.lowerClaim('b1')),
  down('the UnionVolume is gone', (view) => view.union === undefined),
  down('the first lower volume is gone', (view) => !view.lowerVolume('b0')),
  down('the last lower volume is gone', (view) => !view.lowerVolume('b1')),
  down('the volume is gone', (view) => view.volume === undefined),
];

/** Tells of steps when they are reached for the first time. */
export class Observer {
  onStep: (step: Step) => void = () => {};
  readonly reached = new Set<Step>();
  readonly #view: View;
  readonly #watch: ClusterWatch;

  constructor(view: View, watch: ClusterWatch) {
    this.#view = view;
    this.#watch = watch;
  }

  /** Looks at the steps of one way while `work` is under way. */
  async during<T>(way: Step['way'], work: () => Promise<T>): Promise<T> {
    const steps = STEPS.filter((step) => step.way === way);
    const look = () => {
      for (const step of steps) {
        if (this.reached.has(step) || !step.reached(this.#view)) continue;
        this.reached.add(step);
        this.onStep(step);
      }
    };
    this.#watch.onChange = look;
    // Mounts tell nobody that they come and go.
    const timer = setInterval(look, 3);
    try {
      return await work();
    } finally {
      clearInterval(timer);
      this.#watch.onChange = () => {};
      look();
    }
  }
}

const WAITING = { volumeBindingMode: 'WaitForFirstConsumer', reclaimPolicy: 'Delete', allowVolumeExpansion: true };

/** Storage classes of the smallest branches there are: a disk and a folder. */
export async function createClasses(api: ApiClient): Promise<void> {
  const driver = (name: string) => ({ ...WAITING, provisioner: `${name}.embedded.union.csi.dev` });
  await api.create(storageClasses, { metadata: { name: 'disk' }, ...driver('loop') });
  await api.create(storageClasses, { metadata: { name: 'folder' }, ...driver('directory') });
  const branchTemplates = '- {storageClassName: disk}\n- {storageClassName: folder}\n';
  const union = { ...WAITING, provisioner: 'union.csi.dev', parameters: { branchTemplates } };
  await api.create(storageClasses, { metadata: { name: 'union' }, ...union });
}

/** Claim and pod, until the pod runs. `marker` is somewhere in the command line of its process. */
export async function goUp(api: ApiClient, view: View, marker: string): Promise<void> {
  const script = `
    cd /data && mkdir many && for n in $(seq 20); do echo "$n" > many/$n; done && echo checked > file
    trap "exit 0" TERM # ${marker}
    while :; do sleep 1000 & wait; done`;
  await api.create(persistentVolumeClaims, {
    metadata: { namespace, name: 'data' },
    spec: { storageClassName: 'union', accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '34Mi' } } },
  });
  await api.create(pods, {
    metadata: { namespace, name: 'writer' },
    spec: {
      containers: [
        {
          ...{ name: 'main', image: 'host', command: ['sh', '-ec', script] },
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        },
      ],
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }],
    },
  });
  await eventually('the pod to run', () => view.pod?.status?.phase === 'Running', LIMIT_MS);
}

export async function goDown(api: ApiClient, view: View): Promise<void> {
  await api.delete(pods, { namespace, name: 'writer' });
  await api.delete(persistentVolumeClaims, { namespace, name: 'data' });
  await eventually('everything to go', () => view.isEmpty, LIMIT_MS);
}
