/**
 * A replica that leads in one epoch: it makes the in-sync set agree on one log, then serves clients.
 * Invariants: I3, nothing is answered without a lease of every member that may be in sync; I1, a flush is answered when all of
 * them have on their disks what it covers. Plain writes are answered from memory: a disk with a volatile cache.
 */
import { MAX_BLOCKS } from './areas.ts';
import {
  encodeBatch,
  type LogRecord,
  MAX_BATCH_RECORDS,
  MAX_PAYLOAD_BLOCKS,
  MIN_PART_BYTES,
  payloadOf,
} from './batch.ts';
import { blockCrcs } from './block-crc.ts';
import type { Context } from './context.ts';
import type { Message } from './messages.ts';
import type { Change } from './overlay.ts';
import { Peers } from './peers.ts';
import type { ClientRequest } from './ports.ts';
import { type Task, until } from './tasks.ts';
import { ABDICATE_MS } from './timing.ts';
import { BLOCK_SIZE, type Epoch, isAhead, type Lsn, type ReplicaId, toLsn } from './units.ts';
import { withPrimary } from './volume-config.ts';

/** Records that wait to be logged; more clients have to wait. */
const MAX_PENDING_RECORDS = 1024;
type ContentChange = Extract<ClientRequest, { kind: 'write' | 'zero' | 'trim' }>;

/** Blocks of one ZERO or TRIM record. */
const MAX_RECORD_BLOCKS = 4096;

export class Primary {
  readonly epoch: Epoch;
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #maxPayloadBlocks: number;
  #pending: Change[] = [];
  #lastLsn: Lsn;
  #logging = false;
  #serving = false;
  #ended = false;
  #leasedAt: number;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(context: Context, epoch: Epoch) {
    this.epoch = epoch;
    this.#context = context;
    this.#peers = new Peers(context, epoch, {
      askedAt: () => this.#askedAt,
      onDamage: () => this.stepAside(),
    });
    this.#lastLsn = context.store.log.last.lsn;
    this.#leasedAt = context.now();
    // Four batches fit the ring, so that a checkpoint of half of it always makes room for the next.
    const quarter = Math.floor(context.store.log.ringBlocks / 4) - 1;
    this.#maxPayloadBlocks = Math.min(MAX_PAYLOAD_BLOCKS, quarter);
    context.start(this.#establish());
  }

  get isServing(): boolean {
    return this.#serving && !this.#ended;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Stops for good. Clients are told `moved`; what was not logged yet is forgotten. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#peers.end();
    this.#pending = [];
    this.#context.store.forgetAfter(this.#context.store.log.last.lsn);
  }

  receive(from: ReplicaId, message: Message): void {
    if (message.kind === 'status' && message.epoch === this.epoch) this.#peers.heard(from, message);
    else if (message.kind === 'hello' || message.kind === 'append') {
      this.#context.send(from, { kind: 'nack', epoch: this.epoch });
    }
  }

  advance(): void {
    const { store, decisions } = this.#context;
    const now = this.#context.now();
    this.#peers.advance();
    const points = this.#peers.inSyncPoints();
    const committed = points && decisions.committed(points);
    if (committed) store.commit(committed);
    if (this.#peers.hasLease()) this.#leasedAt = now;
    else if (now - this.#leasedAt > ABDICATE_MS) this.end();
    if (!this.#logging && this.#pending.length > 0) this.#context.start(this.#logPending());
  }

  *#establish(): Task {
    const { store } = this.#context;
    yield* until(() => store.isQuiet);
    if (this.#ended) return;
    this.#lastLsn = store.log.last.lsn;
    yield* store.saveSuperblock({ promised: this.epoch });
    if (store.promised > this.epoch) this.end();
    this.#peers.greet();
    yield* until(() => this.#ended || this.#peers.allInSyncAnswered());
    if (this.#ended) return;
    if (this.#yieldToBetterLog()) return;
    const lsn = this.#enqueue({ kind: 'epoch' });
    yield* until(() => this.#ended || store.committed.lsn >= lsn);
    this.#serving = true;
    this.#peers.establish();
  }

  /** The in-sync member that has got furthest leads: a log that lost its end on one disk is still whole on another. */
  #yieldToBetterLog(): boolean {
    const { store, membership, id } = this.#context;
    const best = this.#peers.furthest('log');
    if (best === undefined || !isAhead(best.point, store.durable)) return false;
    if (membership.config?.primary !== id || membership.proposal !== undefined) return false;
    membership.propose(withPrimary(membership.config, best.id), this.#context.now());
    this.end();
    return true;
  }

  request(request: number, body: ClientRequest): void {
    this.#askedAt = this.#context.now();
    const { blocks } = this.#context.store;
    if (body.kind === 'flush') this.#context.start(this.#acknowledge(request, this.#lastLsn));
    else if (body.kind === 'resize') this.#context.start(this.#resize(request, body.blocks));
    else {
      const length = body.kind === 'write' ? body.data.length / BLOCK_SIZE : body.blocks;
      if (body.lba + length > blocks || !Number.isInteger(length)) this.#context.start(this.#refuse(request));
      else if (body.kind === 'read') this.#context.start(this.#read(request, body.lba, body.blocks));
      else this.#context.start(this.#change(request, body));
    }
  }

  *#resize(request: number, blocks: number): Task {
    const { store } = this.#context;
    if (!(blocks >= store.blocks && blocks <= MAX_BLOCKS)) {
      yield* this.#refuse(request);
      return;
    }
    yield* store.grow(blocks);
    // Meanwhile the volume may have grown beyond it.
    if (!this.#ended && blocks > store.blocks) this.#enqueue({ kind: 'resize', blocks });
    yield* this.#acknowledge(request, this.#lastLsn);
  }

  /** Not without a lease: a later primary may have made the volume larger. */
  *#refuse(request: number): Task {
    yield* until(() => this.#ended || this.#peers.hasLease());
    this.#context.answer(request, { ok: false, error: this.#ended ? 'moved' : 'out-of-range' });
  }

  *#read(request: number, lba: number, blocks: number): Task {
    const { store, membership } = this.#context;
    const data = yield* store.read(lba, blocks);
    if (data === undefined) {
      yield* until(() => this.#ended || membership.proposal === undefined);
      if (!this.#ended && !this.stepAside()) this.#context.answer(request, { ok: false, error: 'damaged' });
      else this.#context.answer(request, { ok: false, error: 'moved' });
      return;
    }
    yield* until(() => this.#ended || this.#peers.hasLease());
    this.#finish(request, data);
  }

  /** Hands the volume to a member whose disk may be whole, if there is one. */
  stepAside(): boolean {
    const { store, membership, id } = this.#context;
    const { config, proposal } = membership;
    const other = this.#peers.furthest('content');
    if (config?.primary !== id || other === undefined || proposal !== undefined) return false;
    membership.propose(withPrimary(config, other.id, [id]), this.#context.now());
    store.condemn();
    this.end();
    return true;
  }

  *#change(request: number, body: ContentChange): Task {
    const { store } = this.#context;
    let last = toLsn(0);
    for (const record of split(body, this.#maxPayloadBlocks)) {
      // What was never written is zeros as it is. So a whole volume is trimmed at once, as mkfs does.
      if ((record.kind === 'trim' || record.kind === 'zero') && store.isUnwritten(record.lba, record.blocks)) continue;
      yield* until(() => this.#ended || (store.hasRoom && this.#pending.length < MAX_PENDING_RECORDS));
      if (this.#ended) break;
      last = this.#enqueue(record);
    }
    yield* this.#acknowledge(request, body.fua ? last : toLsn(0));
  }

  /** Answers once everything up to `target` is durable in the whole in-sync set. */
  *#acknowledge(request: number, target: Lsn): Task {
    const { store, decisions, minInSync } = this.#context;
    yield* until(() => {
      if (this.#ended) return true;
      const enough = target === 0n || this.#peers.inSyncCount() >= minInSync;
      return this.#peers.hasLease() && enough && decisions.isFlushed(target, store.committed);
    });
    this.#finish(request, undefined);
  }

  #finish(request: number, data: Uint8Array | undefined): void {
    if (this.#ended) this.#context.answer(request, { ok: false, error: 'moved' });
    else this.#context.answer(request, { ok: true, epoch: this.epoch, data });
  }

  #enqueue(record: LogRecord): Lsn {
    this.#lastLsn = toLsn(this.#lastLsn + 1n);
    const change: Change = { record, lsn: this.#lastLsn };
    this.#pending.push(change);
    this.#context.store.addChange(change);
    return this.#lastLsn;
  }

  /** Group commit: while one batch is on its way to the disk, the next one gathers. */
  *#logPending(): Task {
    const { store } = this.#context;
    this.#logging = true;
    let count = 0;
    let payload = 0;
    for (const { record } of this.#pending) {
      if (count === MAX_BATCH_RECORDS || payload + payloadOf(record) > this.#maxPayloadBlocks) break;
      payload += payloadOf(record);
      count++;
    }
    yield* until(() => this.#ended || store.canAppend(1 + payload));
    if (this.#ended) return;
    const changes = this.#pending.splice(0, count);
    const records = changes.map(({ record }) => record);
    const { volume } = store.identity;
    const batch = encodeBatch({ volume, epoch: this.epoch, previous: store.log.last }, records);
    batch.records.forEach((record, index) => {
      changes[index]!.record = record;
    });
    this.#context.start(store.append(batch));
    this.#peers.stream();
    yield* until(() => store.isQuiet);
    this.#logging = false;
  }
}

function split(body: ContentChange, maxPayload: number): readonly LogRecord[] {
  const records: LogRecord[] = [];
  if (body.kind === 'write') {
    for (let offset = 0; offset < body.data.length; offset += maxPayload * BLOCK_SIZE) {
      const data = body.data.subarray(offset, offset + maxPayload * BLOCK_SIZE);
      const record = { kind: 'write', lba: body.lba + offset / BLOCK_SIZE, data } as const;
      // Of long ones while the batch before is on its way, and not when the disk waits for the next.
      records.push(data.length < MIN_PART_BYTES ? record : { ...record, crcs: blockCrcs(data) });
    }
    return records;
  }
  for (let start = 0; start < body.blocks; start += MAX_RECORD_BLOCKS) {
    const blocks = Math.min(MAX_RECORD_BLOCKS, body.blocks - start);
    records.push({ kind: body.kind, lba: body.lba + start, blocks });
  }
  return records;
}
