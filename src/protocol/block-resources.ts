/**
 * The block engine's custom resources (design: block-engine.md, sections 1 and 7), in the group and with the habits of resources.ts.
 * Of a BlockVolume's status, `config` is the engine's: who leads it and who is in sync, changed by compare-and-swap only.
 */
import type { ObjectMeta } from './objects.ts';
import type { Condition } from './resources.ts';

export const BLOCK_DRIVER_NAME = 'block.union.csi.dev';

/** As Kubernetes has it. */
export type VolumeMode = 'Filesystem' | 'Block';

export interface BlockVolumeSpec {
  /** The name given to CreateVolume: retries are told from collisions by it. */
  readonly volumeName: string;
  readonly capacityBytes: string;
  readonly pool: string;
  /** What it is for whoever uses it, for good: a filesystem (where nothing is said), or the bare device. */
  readonly volumeMode?: VolumeMode;
  /** So few replicas in sync suffice to go on. */
  readonly minInSync: number;
  /** A label of nodes: no two replicas on nodes where it has the same value. The node's name without it. */
  readonly spread?: string;
  /** Nodes that were chosen for a replica each; from the first configuration on that one says who they are (`membersOf`), and this follows. */
  readonly members: readonly string[];
  /** The node that may use the volume: the only one whose connections are served. */
  readonly attachedTo?: string | null;
}

/** As `VolumeConfig` of the engine, with the epoch as a decimal string. */
export interface BlockConfig {
  readonly version: number;
  readonly epoch: string;
  readonly primary: string;
  readonly inSync: readonly string[];
  readonly members: readonly string[];
}

export interface BlockReplicaStatus {
  /** `Making` is written before anything is made. */
  readonly phase: 'Making' | 'Ready' | 'Failed';
  /** Why it failed. */
  readonly message?: string;
}

export interface BlockVolumeStatus {
  readonly phase?: 'Pending' | 'Ready' | 'Degraded' | 'Deleting';
  /** What the volume has by now. */
  readonly capacityBytes?: string;
  readonly config?: BlockConfig;
  /** By node; each node writes its own. A node that has none any more has removed its files. */
  readonly replicas?: Readonly<Record<string, BlockReplicaStatus>>;
  /** Written before a filesystem is made on the volume, and after: nothing is ever made over one that was used. */
  readonly filesystem?: { readonly type: string; readonly state: 'Making' | 'Made' };
  readonly conditions?: readonly Condition[];
  readonly observedGeneration?: number;
}

export interface BlockVolume {
  readonly apiVersion: 'union.csi.dev/v1alpha1';
  readonly kind: 'BlockVolume';
  readonly metadata: ObjectMeta;
  readonly spec: BlockVolumeSpec;
  readonly status?: BlockVolumeStatus;
}

/** A directory of a node in which replicas are kept, written by that node alone. */
export interface BlockPool {
  readonly apiVersion: 'union.csi.dev/v1alpha1';
  readonly kind: 'BlockPool';
  readonly metadata: ObjectMeta;
  readonly spec: { readonly node: string; readonly pool: string; readonly directory: string };
  readonly status?: BlockPoolStatus;
}

export interface BlockPoolStatus {
  /** What replicas may take in all. */
  readonly capacityBytes: string;
  /** `host:port` where replicas of other nodes, and where clients reach those that are here. */
  readonly peerAddress: string;
  readonly exportAddress: string;
  /** RFC 3339; renewed while the node is well. */
  readonly lastSeen: string;
  /** Of the disk that the directory is on, as a file in there has it. Undefined before the node has looked. */
  readonly diskId?: string;
}

/** The nodes that hold a replica each. */
export function membersOf({ spec, status }: BlockVolume): readonly string[] {
  return status?.config?.members ?? spec.members;
}

export function blockPoolName(pool: string, node: string): string {
  return `${pool}.${node}`;
}
