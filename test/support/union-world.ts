/**
 * A cluster in miniature for planning: what the API server, the lower driver, the scheduler and kubelet would do, one small
 * step at a time, so that tests can interleave these steps with ours in any order and cut ours off anywhere.
 */

import { formatQuantity } from '../../src/base/units.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from '../../src/protocol/objects.ts';
import {
  ANNOTATION_ADOPTED_BY,
  ANNOTATION_BRANCHES,
  FINALIZER,
  FINALIZER_ADOPTED,
  type MountStatus,
  type UnionAttachment,
  type UnionVolume,
} from '../../src/protocol/resources.ts';
import { attachmentNameOf } from '../../src/union/ids.ts';
import { type AttachmentAction, planUnionAttachment } from '../../src/union/plan-attachment.ts';
import { planUnionVolume, type VolumeAction } from '../../src/union/plan-volume.ts';
import { ANNOTATION_SELECTED_NODE, planVolume, unionVolume } from '../../src/union/spec.ts';
import { claim, storageClass, volumeRequest } from './union-objects.ts';

const NOW = '2026-01-01T00:00:00.000Z';
const HOSTNAME = 'kubernetes.io/hostname';

export class UnionWorld {
  readonly storageClasses: StorageClass[] = [
    storageClass('fast'),
    storageClass('waiting', { volumeBindingMode: 'WaitForFirstConsumer' }),
  ];
  readonly claims = new Map<string, PersistentVolumeClaim>();
  readonly volumes = new Map<string, PersistentVolume>();
  readonly pods = new Map<string, Pod>();
  readonly attachments = new Map<string, UnionAttachment>();
  volume: UnionVolume | undefined;
  readonly events: string[] = [];
  /** Of the controller. */
  image = 'union-csi';
  mayReplace = true;
  #counter = 0;

  /** Makes the union that a claim `files` with this list of branches asks for. */
  request(list: string, requiredBytes = 4n * 1024n ** 3n): void {
    const planned = planVolume(volumeRequest({ capacity: { requiredBytes, limitBytes: 0n }, nodes: ['node-1'] }), {
      storageClasses: this.storageClasses,
      upperClaim: claim('files', { annotations: { [ANNOTATION_BRANCHES]: list } }),
      claims: [...this.claims.values()],
      pods: [...this.pods.values()],
      adoptedVolumes: [],
      nodes: [],
    });
    if (!planned.ok) throw new Error(planned.error.message);
    this.volume = this.#stamped(unionVolume(planned.value));
  }

  addClaim(name: string, volumeName: string | undefined): void {
    const made = claim(name, volumeName === undefined ? {} : { volumeName });
    this.claims.set(name, this.#stamped(made));
    if (volumeName !== undefined) this.volumes.set(volumeName, this.#lowerVolume(volumeName, made));
  }

  /** As the node plugin does. */
  tellMount(node: string, mount: MountStatus): void {
    const attachment = this.attachments.get(node)!;
    this.attachments.set(node, { ...attachment, status: { ...attachment.status, mount } });
  }

  attach(node: string): void {
    const name = attachmentNameOf(this.volume!.metadata.name, node);
    const metadata = { name, finalizers: [FINALIZER], creationTimestamp: `${NOW}${this.attachments.size}` };
    this.attachments.set(
      node,
      this.#stamped({
        apiVersion: 'union.csi.dev/v1alpha1',
        kind: 'UnionAttachment',
        metadata,
        spec: { volume: this.volume!.metadata.name, node, readOnly: false },
      }),
    );
  }

  planVolume(): readonly VolumeAction[] {
    const { volume } = this;
    if (!volume) return [];
    const branches = volume.spec.branches.map((branch) => {
      const found = this.claims.get(branch.claim.name);
      const volumes = [...this.volumes.values()].filter(({ spec }) => spec?.claimRef?.name === branch.claim.name);
      return [branch.id, { claim: found, volumes }] as const;
    });
    return planUnionVolume({
      volume,
      branches: new Map(branches),
      pods: [...this.pods.values()],
      storageClasses: this.storageClasses,
      unclaimed: [...this.volumes.values()].filter(({ spec }) => spec?.claimRef === undefined),
      selectedNode: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1', labels: { [HOSTNAME]: 'node-1' } } },
      attachments: [...this.attachments.values()],
      unwanted: false,
      server: { image: 'union-csi' },
      now: NOW,
    });
  }

  planAttachment(node: string): readonly AttachmentAction[] {
    const attachment = this.attachments.get(node);
    if (!attachment) return [];
    const pods = [...this.pods.values()];
    return planUnionAttachment({
      attachment,
      volume: this.volume,
      attachments: [...this.attachments.values()],
      servers: pods.filter(({ metadata }) => metadata.labels?.['union.csi.dev/volume'] === attachment.spec.volume),
      claims: [...this.claims.values()],
      pods,
      storageClasses: this.storageClasses,
      server: { image: this.image },
      mayReplace: this.mayReplace,
      now: NOW,
    });
  }

  applyVolume(action: VolumeAction): void {
    switch (action.kind) {
      case 'add-finalizer':
        this.#setVolume({ metadata: { ...this.volume!.metadata, finalizers: [FINALIZER] } });
        return;
      case 'delete-union':
        this.deleteVolume();
        return;
      case 'remove-finalizer':
        this.#collectGarbage(this.volume?.metadata.uid);
        this.volume = undefined;
        return;
      case 'update-status':
        this.#setVolume({ status: action.status });
        return;
      case 'event':
        this.events.push(`${action.event.type} ${action.event.reason}: ${action.event.message}`);
        return;
      case 'create-claim':
        if (this.claims.has(action.claim.metadata.name)) throw new Error('a claim was made twice');
        this.claims.set(action.claim.metadata.name, this.#stamped(action.claim));
        return;
      case 'adopt-claim':
        this.#patchClaim(action.claim.name, { [ANNOTATION_ADOPTED_BY]: this.volume!.metadata.name }, [
          FINALIZER_ADOPTED,
        ]);
        return;
      case 'release-claim':
        this.#patchClaim(action.claim.name, {}, []);
        return;
      case 'grow-claim':
        this.#setClaim(action.claim.name, (found) => ({
          ...found,
          spec: { ...found.spec, resources: { requests: { storage: formatQuantity(action.sizeBytes) } } },
        }));
        return;
      case 'delete-claim':
        this.deleteClaim(action.claim.name);
        return;
      case 'create-pod':
        if (this.pods.has(action.pod.metadata.name)) throw new Error('a pod was made twice');
        this.pods.set(action.pod.metadata.name, this.#stamped(action.pod));
        return;
      case 'delete-pod':
        this.pods.delete(action.pod.name);
        return;
    }
  }

  applyAttachment(node: string, action: AttachmentAction): void {
    const attachment = this.attachments.get(node)!;
    switch (action.kind) {
      case 'add-finalizer':
        return;
      case 'remove-finalizer':
        this.attachments.delete(node);
        return;
      case 'update-status':
        this.attachments.set(node, { ...attachment, status: action.status });
        return;
      case 'event':
        this.events.push(`${action.event.type} ${action.event.reason}: ${action.event.message}`);
        return;
      case 'create-pod':
        if (this.pods.has(action.pod.metadata.name)) throw new Error('a server pod was made twice');
        this.pods.set(action.pod.metadata.name, this.#stamped(action.pod));
        return;
      case 'delete-pod':
        this.#setPod(action.pod.name, (pod) => ({
          ...pod,
          metadata: { ...pod.metadata, deletionTimestamp: NOW },
        }));
        return;
    }
  }

  changePod(name: string, change: (pod: Pod) => Pod): void {
    this.#setPod(name, change);
  }

  /** What others could do now, by name, in a stable order. */
  moves(): ReadonlyMap<string, () => void> {
    const moves = new Map<string, () => void>();
    for (const [name, found] of this.claims) {
      const { phase, capacity } = found.status ?? {};
      const held = (found.metadata.finalizers?.length ?? 0) > 0;
      if (found.metadata.deletionTimestamp && !held) moves.set(`reap ${name}`, () => this.claims.delete(name));
      else if (phase !== 'Bound' && this.#mayBind(found)) moves.set(`bind ${name}`, () => this.bind(name));
      else if (phase === 'Bound' && capacity?.storage !== found.spec?.resources?.requests?.storage) {
        moves.set(`resize ${name}`, () => this.resize(name));
      }
    }
    for (const [name, { spec }] of this.volumes) {
      if (!this.claims.has(spec?.claimRef?.name ?? '')) moves.set(`reclaim ${name}`, () => this.volumes.delete(name));
    }
    for (const [name, pod] of this.pods) {
      if (pod.metadata.deletionTimestamp) moves.set(`end ${name}`, () => this.pods.delete(name));
      else if (!pod.status?.phase) moves.set(`schedule ${name}`, () => this.#podIs(name, 'Pending'));
      else if (pod.status.phase === 'Pending') moves.set(`start ${name}`, () => this.#podIs(name, 'Running'));
      else if (pod.status.phase === 'Running' && pod.spec?.restartPolicy === 'OnFailure') {
        moves.set(`finish ${name}`, () => this.#podIs(name, 'Succeeded'));
      }
    }
    return moves;
  }

  bind(name: string): void {
    const found = this.claims.get(name)!;
    const volumeName = `pv-${found.metadata.uid}`;
    this.volumes.set(volumeName, this.#lowerVolume(volumeName, found));
    this.#setClaim(name, (before) => ({
      ...before,
      spec: { ...before.spec, volumeName },
      status: { phase: 'Bound', capacity: { storage: before.spec!.resources!.requests!.storage! } },
    }));
  }

  rebind(name: string, volumeName: string): void {
    this.#setClaim(name, (found) => ({ ...found, spec: { ...found.spec, volumeName } }));
    const found = this.claims.get(name);
    if (found && !this.volumes.has(volumeName)) this.volumes.set(volumeName, this.#lowerVolume(volumeName, found));
  }

  resize(name: string): void {
    this.#setClaim(name, (before) => ({
      ...before,
      status: { ...before.status, capacity: { storage: before.spec!.resources!.requests!.storage! } },
    }));
  }

  /** A lower provisioner has no space on the chosen node. */
  takeNodeAway(name: string): void {
    this.#setClaim(name, (found) => ({ ...found, metadata: { ...found.metadata, annotations: {} } }));
  }

  deleteClaim(name: string): void {
    this.#setClaim(name, (found) => ({ ...found, metadata: { ...found.metadata, deletionTimestamp: NOW } }));
  }

  deleteVolume(): void {
    if (this.volume) this.#setVolume({ metadata: { ...this.volume.metadata, deletionTimestamp: NOW } });
  }

  detach(node: string): void {
    const found = this.attachments.get(node);
    if (found) this.attachments.set(node, { ...found, metadata: { ...found.metadata, deletionTimestamp: NOW } });
  }

  #collectGarbage(owner: string | undefined): void {
    for (const [name, { metadata }] of this.pods) {
      if (metadata.ownerReferences?.some(({ uid }) => uid === owner)) this.pods.delete(name);
    }
  }

  #mayBind(found: PersistentVolumeClaim): boolean {
    const waits = found.spec?.storageClassName === 'waiting';
    return (
      !found.metadata.deletionTimestamp &&
      (!waits || found.metadata.annotations?.[ANNOTATION_SELECTED_NODE] !== undefined)
    );
  }

  #lowerVolume(name: string, { metadata }: PersistentVolumeClaim): PersistentVolume {
    const nodeSelectorTerms = [{ matchExpressions: [{ key: HOSTNAME, operator: 'In', values: ['node-1'] }] }];
    return {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name },
      spec: {
        claimRef: {
          namespace: metadata.namespace!,
          name: metadata.name,
          ...(metadata.uid ? { uid: metadata.uid } : {}),
        },
        persistentVolumeReclaimPolicy: 'Delete',
        nodeAffinity: { required: { nodeSelectorTerms } },
      },
    };
  }

  #podIs(name: string, phase: string): void {
    this.#setPod(name, (pod) => ({ ...pod, spec: { ...pod.spec!, nodeName: 'node-1' }, status: { phase } }));
  }

  #setPod(name: string, change: (pod: Pod) => Pod): void {
    const found = this.pods.get(name);
    if (found) this.pods.set(name, change(found));
  }

  #setVolume(change: Partial<UnionVolume>): void {
    this.volume = this.#versioned({ ...this.volume!, ...change });
  }

  #setClaim(name: string, change: (found: PersistentVolumeClaim) => PersistentVolumeClaim): void {
    const found = this.claims.get(name);
    if (found) this.claims.set(name, this.#versioned(change(found)));
  }

  #patchClaim(name: string, annotations: Record<string, string>, finalizers: string[]): void {
    this.#setClaim(name, (found) => ({ ...found, metadata: { ...found.metadata, annotations, finalizers } }));
  }

  #stamped<T extends { metadata: object }>(object: T): T {
    this.#counter++;
    return this.#versioned({ ...object, metadata: { generation: 1, uid: `uid-${this.#counter}`, ...object.metadata } });
  }

  #versioned<T extends { metadata: object }>(object: T): T {
    return { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#counter) } };
  }
}
