/**
 * Engines that are wrong, one way each; A to I (there is no E) were found in a public engine of this kind. The simulator has to catch every
 * one of them: by a wrong decision in place of the right one, or by a disk or network that does what the wrong code would.
 * The engine itself knows nothing of them.
 */
import { hash } from 'node:crypto';
import { decodeHeader } from '../../src/block/batch.ts';
import { type Decisions, decisions } from '../../src/block/decisions.ts';
import type { Message } from '../../src/block/messages.ts';
import type { DiskOperation, DiskOutcome } from '../../src/block/ports.ts';
import { decodeSuperblock, encodeSuperblock } from '../../src/block/superblock.ts';
import { BLOCK_SIZE, ORIGIN, type Point, type ReplicaId, toEpoch, toLsn } from '../../src/block/units.ts';
import { type VolumeConfig, withReplacement } from '../../src/block/volume-config.ts';

export interface Mutant {
  readonly decisions?: Decisions;
  /** What the disk is asked for instead. */
  readonly disk?: (node: number, operation: DiskOperation) => DiskOperation;
  /** What the engine is told instead. */
  readonly outcome?: (operation: DiskOperation, outcome: DiskOutcome) => DiskOutcome;
  /** Undefined: the message is not sent at all. */
  readonly message?: (message: Message) => Message | undefined;
  /** The configuration in which `next` has the place of `lost`, decided on one that may not be the current one any more. */
  readonly replacement?: (
    decidedOn: VolumeConfig,
    current: VolumeConfig,
    lost: ReplicaId,
    next: ReplicaId,
  ) => VolumeConfig | undefined;
}

const SUCCESS: DiskOutcome = { ok: true, data: undefined };

/** Fresh mutants for one world; some of them remember. */
export const mutants: Readonly<Record<string, () => Mutant>> = {
  // Ring head and tail are saved on clean close only.
  A: () => ({
    disk: (_node, operation) =>
      changeSuperblock(operation, (superblock) => ({ ...superblock, checkpoint: ORIGIN, tail: 0 })),
  }),
  // Recovery replays in physical order.
  B: () => ({
    decisions: { ...decisions, replayOrder: (batches) => [...batches].sort((a, b) => a.position - b.position) },
  }),
  // Checkpoint = highest LSN, not the prefix that has been applied.
  C: claimHighestLsn,
  // The barrier's achieved LSN is thrown away.
  D: () => ({ decisions: { ...decisions, isFlushed: () => true } }),
  // The replica's fsync fails, the error is dropped.
  F: () => ({ outcome: (operation, outcome) => (operation.kind === 'sync' ? SUCCESS : outcome) }),
  // The replica's apply hits ENOSPC, the error is logged and the loop goes on.
  G: () => ({ outcome: (_operation, outcome) => (!outcome.ok && outcome.error === 'ENOSPC' ? SUCCESS : outcome) }),
  // The fence is in memory only.
  H: () => ({
    disk: (_node, operation) => changeSuperblock(operation, (superblock) => ({ ...superblock, promised: toEpoch(0) })),
  }),
  // A rebuild skips blocks of zeros and does not clear the target.
  I: () => ({ message: skipZeros }),
  // Beyond the eight. A record counts as committed when one member has it.
  J: () => ({ decisions: { ...decisions, committed: furthest } }),
  // Nobody is ever fenced.
  K: () => ({ decisions: { ...decisions, acceptsEpoch: () => true } }),
  // Leases are not looked at: a primary that was paused goes on as if nothing had been.
  L: () => ({ decisions: { ...decisions, holds: () => true } }),
  // A new size is in memory only.
  M: () => ({ disk: keepFirstSize() }),
  // A lost member is replaced although it is in sync.
  N: () => ({ replacement: replaceAnyway }),
  // A replacement is written without comparing: what was decided on an old configuration overrides newer ones.
  O: () => ({
    replacement: (decidedOn, current, lost, next) => {
      const successor = withReplacement(decidedOn, lost, next);
      return successor && { ...successor, version: current.version + 1 };
    },
  }),
};

function replaceAnyway(config: VolumeConfig, _current: VolumeConfig, lost: ReplicaId, next: ReplicaId): VolumeConfig {
  const replaced = (ids: readonly ReplicaId[]) => ids.map((id) => (id === lost ? next : id));
  const { version, members, inSync } = config;
  return { ...config, version: version + 1, members: replaced(members), inSync: replaced(inSync) };
}

function furthest(points: readonly Point[]): Point | undefined {
  return points.reduce<Point | undefined>((best, point) => (best && best.lsn >= point.lsn ? best : point), undefined);
}

/** Remembers the newest batch that each disk was given, and puts its end into every superblock. */
function claimHighestLsn(): Mutant {
  const newest = new Map<number, { readonly checkpoint: Point; readonly next: number }>();
  const disk: Mutant['disk'] = (node, operation) => {
    const claimed = newest.get(node);
    if (operation.kind !== 'write') return operation;
    if (operation.area === 'superblock') {
      return changeSuperblock(operation, (superblock) => {
        if (claimed === undefined || superblock.checkpoint.lsn === 0n) return superblock;
        return { ...superblock, checkpoint: claimed.checkpoint, tail: claimed.next % superblock.geometry.ringBlocks };
      });
    }
    const header = operation.area === 'log' ? decodeHeader(operation.data) : undefined;
    if (!header?.ok) return operation;
    const { firstLsn, count, epoch, payloadBlocks } = header.value;
    const digest = hash('sha256', operation.data.subarray(0, BLOCK_SIZE), 'hex').slice(0, 32);
    const checkpoint = { lsn: toLsn(firstLsn + BigInt(count) - 1n), epoch, hash: digest };
    newest.set(node, { checkpoint, next: operation.offset / BLOCK_SIZE + 1 + payloadBlocks });
    return operation;
  };
  return { disk };
}

function keepFirstSize(): NonNullable<Mutant['disk']> {
  let blocks: number | undefined;
  return (_node, operation) =>
    changeSuperblock(operation, (superblock) => {
      blocks ??= superblock.geometry.blocks;
      return { ...superblock, geometry: { ...superblock.geometry, blocks } };
    });
}

function changeSuperblock(
  operation: DiskOperation,
  change: (superblock: Parameters<typeof encodeSuperblock>[0]) => Parameters<typeof encodeSuperblock>[0],
): DiskOperation {
  if (operation.kind !== 'write' || operation.area !== 'superblock') return operation;
  const decoded = decodeSuperblock(operation.data);
  return decoded.ok ? { ...operation, data: encodeSuperblock(change(decoded.value)) } : operation;
}

/** The range becomes an empty one at the same place in the sequence, as if it had held nothing to send. */
function skipZeros(message: Message): Message {
  return message.kind === 'base' && message.data === undefined ? { ...message, blocks: 0 } : message;
}
