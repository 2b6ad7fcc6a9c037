/** What a person does in the default namespace of a cluster: makes classes, claims and pods, and reads what is said of them. */
import {
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
  unionVolumes,
} from '../../src/embedded/api-server/kinds.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from '../../src/protocol/objects.ts';
import type { UnionVolume } from '../../src/protocol/resources.ts';
import type { ApiClient } from './api-client.ts';
import { eventually } from './eventually.ts';

export type Parameters = Readonly<Record<string, string>>;

const namespace = 'default';
const LIMIT_MS = 60_000;
/** Ends at once when it is told to, as a shell that is process 1 does not by itself. */
const UNTIL_TOLD = 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done';

const SAY_END = 'echo end of script';

export interface DevicePod {
  readonly script: string;
  readonly readOnly?: boolean;
  readonly node?: string | undefined;
}

export class ClusterUser {
  readonly api: ApiClient;

  constructor(api: ApiClient) {
    this.api = api;
  }

  /** A class of unions, unless it says otherwise. */
  async createClass(name: string, parameters: Parameters, more: Partial<StorageClass> = {}): Promise<void> {
    const common = { provisioner: 'union.csi.dev', reclaimPolicy: 'Delete', allowVolumeExpansion: true };
    await this.api.create(storageClasses, { metadata: { name }, ...common, parameters, ...more });
  }

  async replaceClass(name: string, parameters: Parameters, more: Partial<StorageClass> = {}): Promise<void> {
    await this.api.delete(storageClasses, { name });
    await this.createClass(name, parameters, more);
  }

  async createClaim(
    name: string,
    storageClassName: string,
    spec: PersistentVolumeClaim['spec'] = {},
    annotations: Parameters = {},
  ): Promise<void> {
    const resources = { requests: { storage: '64Mi' } };
    await this.api.create(persistentVolumeClaims, {
      metadata: { namespace, name, annotations },
      spec: { storageClassName, accessModes: ['ReadWriteOnce'], resources, ...spec },
    });
  }

  async annotateClaim(name: string, annotations: Parameters): Promise<void> {
    await this.api.patch(persistentVolumeClaims, { namespace, name }, { metadata: { annotations } });
  }

  async resizeClaim(name: string, storage: string): Promise<void> {
    await this.api.patch(
      persistentVolumeClaims,
      { namespace, name },
      { spec: { resources: { requests: { storage } } } },
    );
  }

  async claim(name: string): Promise<PersistentVolumeClaim | undefined> {
    return await this.api.get(persistentVolumeClaims, { namespace, name });
  }

  async bound(name: string): Promise<PersistentVolumeClaim> {
    return await eventually(
      `claim ${name} to be bound`,
      async () => {
        const claim = await this.claim(name);
        return claim?.status?.phase === 'Bound' && claim;
      },
      LIMIT_MS,
    );
  }

  async deleteClaim(name: string): Promise<void> {
    const volume = (await this.claim(name))?.spec?.volumeName;
    await this.api.delete(persistentVolumeClaims, { namespace, name });
    const isGone = async () => {
      if (await this.claim(name)) return false;
      return volume === undefined || !(await this.api.get(persistentVolumes, { name: volume }));
    };
    await eventually(`claim ${name} and its volume to go`, isGone, LIMIT_MS);
  }

  /** The claim's volume, which must be there. */
  async persistentVolumeOf(claim: string): Promise<PersistentVolume> {
    const name = (await this.claim(claim))?.spec?.volumeName ?? '';
    return (await this.api.get(persistentVolumes, { name }))!;
  }

  /** The claim's volume and union; both must be there. */
  async volumeOf(claim: string): Promise<{ readonly volume: PersistentVolume; readonly union: UnionVolume }> {
    const volume = await this.persistentVolumeOf(claim);
    const union = (await this.api.get(unionVolumes, { name: volume.spec?.csi?.volumeHandle ?? '' }))!;
    return { volume, union };
  }

  /** A pod that has the claim at /data, runs the script there, and then stays. */
  async createPod(name: string, claimName: string, script = ':'): Promise<void> {
    const use = { volumeMounts: [{ name: 'data', mountPath: '/data' }] };
    await this.#createPod(name, { claimName }, { script: `cd /data; ${script}; cd /`, use });
  }

  /** A pod that has the claim as device /dev/data, runs the script, and then stays. */
  async createDevicePod(name: string, claimName: string, { script, node, readOnly = false }: DevicePod): Promise<void> {
    const use = { volumeDevices: [{ name: 'data', devicePath: '/dev/data' }] };
    await this.#createPod(name, { claimName, readOnly }, { script, node, use });
  }

  async #createPod(
    name: string,
    persistentVolumeClaim: { readonly claimName: string; readonly readOnly?: boolean },
    { script, node, use }: { readonly script: string; readonly node?: string | undefined; readonly use: object },
  ): Promise<void> {
    const command = ['sh', '-ec', `${script}; ${UNTIL_TOLD}`];
    await this.api.create(pods, {
      metadata: { namespace, name },
      spec: {
        terminationGracePeriodSeconds: 2,
        ...(node && { nodeSelector: { 'kubernetes.io/hostname': node } }),
        containers: [{ name: 'main', image: 'host', command, ...use }],
        volumes: [{ name: 'data', persistentVolumeClaim }],
      },
    });
  }

  /** A pod as `createPod` makes it, run to the end of its script; resolves to what it printed. */
  async run(name: string, claimName: string, script: string): Promise<string> {
    await this.createPod(name, claimName, `${script}; ${SAY_END}`);
    return await this.#printed(name);
  }

  /** As `run`, for a claim that is a device. */
  async runOnDevice(name: string, claimName: string, pod: DevicePod): Promise<string> {
    await this.createDevicePod(name, claimName, { ...pod, script: `${pod.script}; ${SAY_END}` });
    return await this.#printed(name);
  }

  async #printed(name: string): Promise<string> {
    const log = await eventually(
      `pod ${name} to run its script`,
      async () => {
        const text = await this.api.log({ namespace, name });
        return text.includes('end of script\n') && text;
      },
      LIMIT_MS,
    );
    return log.replace('end of script\n', '');
  }

  async pod(name: string): Promise<Pod | undefined> {
    return await this.api.get(pods, { namespace, name });
  }

  async running(name: string): Promise<Pod> {
    return await eventually(
      `pod ${name} to run`,
      async () => {
        const pod = await this.pod(name);
        return pod?.status?.phase === 'Running' && pod;
      },
      LIMIT_MS,
    );
  }

  async deletePod(name: string): Promise<void> {
    await this.api.delete(pods, { namespace, name });
    await eventually(`pod ${name} to go`, async () => !(await this.pod(name)), LIMIT_MS);
  }

  /** Waits for an event about an object of that name, `TYPE Reason: message`. */
  async told(name: string, what: string | RegExp): Promise<string> {
    const fits = (event: string) => (typeof what === 'string' ? event.includes(what) : what.test(event));
    let events: readonly string[] = [];
    try {
      return await eventually('an event', async () => {
        events = await this.api.eventsAbout(name);
        return events.find(fits);
      });
    } catch (error) {
      throw new Error(`no event about ${name} says ${what}; there are:\n${events.join('\n')}`, { cause: error });
    }
  }
}
