/**
 * The receiving side of a rebuild, in two lanes: the base (the volume's content as the primary reads it, zeros included) and
 * the log from `start` on. The log wins per block: what a checkpoint has already applied from it is not taken from the base.
 * What is only in the log is: a later primary may truncate it, and then the base is what was beneath. Neither lane counts
 * before SEAL; until then the superblock says that this replica is incomplete, and a crash begins anew.
 */
import { assertNever } from '../base/assert.ts';
import { type Batch, blocksOf } from './batch.ts';
import type { Message, PeerStatus } from './messages.ts';
import type { BlockChange, Change } from './overlay.ts';
import type { Store } from './store.ts';
import type { Task } from './tasks.ts';
import { type Epoch, type Lsn, samePoint } from './units.ts';

type Base = Extract<Message, { kind: 'base' }>;

interface Session {
  readonly epoch: Epoch;
  readonly number: number;
  readonly startLsn: Lsn;
  received: number;
  /** Blocks that the log has touched since the session began. */
  readonly logged: Set<number>;
}

export class RebuildTarget {
  readonly #store: Store;
  #session: Session | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  progress(epoch: Epoch): PeerStatus['rebuild'] {
    const session = this.#session;
    return session?.epoch === epoch ? { session: session.number, received: session.received } : undefined;
  }

  noteLogged(batch: Batch): void {
    if (!this.#session) return;
    for (const record of batch.records) {
      if (record.kind === 'epoch' || record.kind === 'resize') continue;
      for (let index = 0; index < blocksOf(record); index++) this.#session.logged.add(record.lba + index);
    }
  }

  *receive(message: Message): Task {
    switch (message.kind) {
      case 'reset':
        if (this.progress(message.epoch)?.session === message.session) return;
        if (!this.#isAsSeen(message)) return;
        this.#session = undefined;
        if (!(yield* this.#store.reset(message.start, message.blocks))) return;
        this.#session = {
          epoch: message.epoch,
          number: message.session,
          startLsn: message.start.lsn,
          received: 0,
          logged: new Set(),
        };
        return;
      case 'base':
        if (this.progress(message.epoch)?.session === message.session) yield* this.#base(message, this.#session!);
        return;
      case 'seal':
        if (this.progress(message.epoch)?.session !== message.session) return;
        if (this.#session!.received !== message.count) return;
        yield* this.#store.complete();
        this.#session = undefined;
        return;
      case 'hello':
      case 'append':
      case 'status':
      case 'nack':
        return;
      default:
        assertNever(message);
    }
  }

  #isAsSeen({ seen }: Extract<Message, { kind: 'reset' }>): boolean {
    return this.#store.usable === seen.usable && samePoint(this.#store.durable, seen.durable);
  }

  *#base(message: Base, session: Session): Task {
    if (message.index !== session.received) return;
    yield* this.#store.lockExtents();
    const { extents, overlay } = this.#store;
    const { lba, blocks, data } = message;
    const lsn = session.startLsn;
    const isApplied = (block: number) => session.logged.has(block) && overlay.newest(block) === undefined;
    for (let start = 0; start < blocks; ) {
      let end = start;
      while (end < blocks && !isApplied(lba + end)) end++;
      if (end > start && data === undefined) yield* extents.clear(lba + start, end - start, lsn);
      else if (end > start) yield* extents.put(changesOf(message, { start, end, lsn }));
      start = end + 1;
    }
    this.#store.unlockExtents();
    session.received++;
  }
}

function changesOf(message: Base, range: { start: number; end: number; lsn: Lsn }): readonly BlockChange[] {
  const { lba, data } = message;
  const change: Change = { lsn: range.lsn, record: { kind: 'write', lba, data: data! } };
  return Array.from({ length: range.end - range.start }, (_, index) => ({ lba: lba + range.start + index, change }));
}
