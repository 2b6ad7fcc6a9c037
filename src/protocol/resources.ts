/**
 * Our custom resources and the names we put on other people's objects (design: kubernetes.md, section 2).
 * Spec is written by CSI calls and people; status only by the reconciler that owns the kind.
 * Sizes are decimal strings of bytes: JSON numbers end at 2^53.
 */
import type { ObjectMeta } from './objects.ts';

export const DRIVER_NAME = 'union.csi.dev';
export const API_GROUP = 'union.csi.dev';
export const API_VERSION = 'v1alpha1';
/** Namespace of the driver and, with `branchNamespace: driver`, of the lower claims. */
export const DRIVER_NAMESPACE = 'union-csi';

/** On a PVC: the adoption list (user), and which union holds an adopted claim (us). */
export const ANNOTATION_BRANCHES = `${API_GROUP}/branches`;
export const ANNOTATION_ADOPTED_BY = `${API_GROUP}/adopted-by`;
/** On lower claims and server pods: the UnionVolume's name. */
export const LABEL_VOLUME = `${API_GROUP}/volume`;
export const LABEL_BRANCH = `${API_GROUP}/branch`;
export const LABEL_ATTACHMENT = `${API_GROUP}/attachment`;
/** On UnionVolume and UnionAttachment (we clean up before they go), and on adopted claims (they must not vanish under us). */
export const FINALIZER = `${API_GROUP}/protect`;
export const FINALIZER_ADOPTED = `${API_GROUP}/adopted`;
/** On a UnionVolume that CreateVolume has answered for: from then on only DeleteVolume may remove it. */
export const ANNOTATION_PROVISIONED = `${API_GROUP}/provisioned`;
/** On a server pod: the image that was asked for. What its spec says may have been rewritten by an admission webhook. */
export const ANNOTATION_IMAGE = `${API_GROUP}/image`;
export const TOPOLOGY_KEY_NODE = 'kubernetes.io/hostname';

export type BranchMode = 'RW' | 'RO' | 'NC';
export type AccessMode = 'ReadWriteOnce' | 'ReadWriteOncePod' | 'ReadOnlyMany' | 'ReadWriteMany';

/** One lower volume of a union. */
export interface BranchSpec {
  /** Stable within the volume, `b0`, `b1`, …: part of lower claim names and of mount paths. Never reused. */
  readonly id: string;
  readonly mode: BranchMode;
  /** Created ones we delete with the volume; adopted ones never. */
  readonly origin: 'created' | 'adopted';
  readonly claim: { readonly namespace: string; readonly name: string };
  /** Of created branches only. */
  readonly storageClassName?: string;
  /** Requested size in bytes; of adopted ones only once they were grown. */
  readonly sizeBytes?: string;
  readonly minFreeSpaceBytes?: string;
  /** Adopted ones only: may be resized (`grow: true`); may be used by others too (`shared: true`). */
  readonly grow?: boolean;
  readonly shared?: boolean;
  readonly desired: 'active' | 'draining';
}

export interface PolicySpec {
  readonly create: string;
  readonly action: string;
  readonly search: string;
}

export interface UnionVolumeSpec {
  /** The upper claim, where the provisioner told us (`--extra-create-metadata`). */
  readonly claim?: { readonly namespace: string; readonly name: string };
  /** The name given to CreateVolume: retries are told from collisions by it. */
  readonly volumeName: string;
  readonly capacityBytes: string;
  readonly accessModes: readonly AccessMode[];
  readonly branches: readonly BranchSpec[];
  readonly policies: PolicySpec;
  readonly expandStrategy: 'grow' | 'add-branch';
  readonly mountOptions: readonly string[];
  /** The node that a WaitForFirstConsumer scheduler chose. */
  readonly selectedNode?: string;
}

export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number;
}

export type BranchPhase = 'Pending' | 'Bound' | 'Lost' | 'Refused' | 'Released';

export interface BranchStatus {
  readonly id: string;
  readonly phase: BranchPhase;
  readonly capacityBytes?: string;
  readonly persistentVolume?: string;
  /** Why the phase is what it is, for people. */
  readonly message?: string;
}

export interface UnionVolumeStatus {
  readonly phase?: 'Pending' | 'Ready' | 'Deleting' | 'Failed';
  readonly capacityBytes?: string;
  readonly branches?: readonly BranchStatus[];
  /** Topology terms, any of which a node must match: the intersection of the branches' node affinities. */
  readonly accessibleTopology?: readonly Readonly<Record<string, string>>[];
  readonly conditions?: readonly Condition[];
  readonly observedGeneration?: number;
}

export interface UnionVolume {
  readonly apiVersion: 'union.csi.dev/v1alpha1';
  readonly kind: 'UnionVolume';
  readonly metadata: ObjectMeta;
  readonly spec: UnionVolumeSpec;
  readonly status?: UnionVolumeStatus;
}

export interface UnionAttachmentSpec {
  /** Name of the UnionVolume, which is also the CSI volume id. */
  readonly volume: string;
  readonly node: string;
  readonly readOnly: boolean;
}

/** How the mount on the node is: `Held` while no server lives and requests wait, `Failed` when they are answered with errors. */
export interface MountStatus {
  readonly state: 'Served' | 'Held' | 'Failed';
  /** Why, where something is wrong. */
  readonly message: string;
  /** Branches that do not work as they should, as the server told last. */
  readonly illBranches?: readonly IllBranch[];
}

export interface IllBranch {
  readonly id: string;
  /** As the server's status has it: `failing`, `read-only`, … */
  readonly health: string;
  /** What is wrong, for people. */
  readonly message: string;
}

export interface PodRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** A pod that has a branch mounted which the server pod was made without. */
export interface FeederStatus {
  readonly branch: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: string;
  readonly pod: PodRef;
}

export interface UnionAttachmentStatus {
  readonly phase?: 'Pending' | 'Scheduled' | 'Running' | 'Detaching' | 'Failed';
  /** The server pod, in DRIVER_NAMESPACE or the claim's namespace. */
  readonly pod?: PodRef;
  /** How often kubelet has started the server's container again. */
  readonly restarts?: number;
  /** The one field that is written by the node plugin. */
  readonly mount?: MountStatus;
  /** Those that run. */
  readonly feeders?: readonly FeederStatus[];
  readonly conditions?: readonly Condition[];
  readonly observedGeneration?: number;
}

export interface UnionAttachment {
  readonly apiVersion: 'union.csi.dev/v1alpha1';
  readonly kind: 'UnionAttachment';
  readonly metadata: ObjectMeta;
  readonly spec: UnionAttachmentSpec;
  readonly status?: UnionAttachmentStatus;
}
