/**
 * A replica that follows: it promises epochs, grants leases, writes what the primary sends, and lets itself be rebuilt.
 * Everything that changes the log goes through one worker, in the order of arrival.
 * Invariants: I4, an epoch is durable before it is obeyed; a committed record is never truncated; while this replica tries to
 * become primary itself it grants no lease.
 */
import { type Batch, decodeBatch } from './batch.ts';
import type { Context } from './context.ts';
import { sizeOf } from './log.ts';
import type { Message } from './messages.ts';
import { RebuildTarget } from './rebuild-target.ts';
import { type Task, until } from './tasks.ts';
import { type Epoch, type Point, type ReplicaId, samePoint, toLsn } from './units.ts';

/** Messages that wait for the worker. More are dropped; the primary sends again. */
const MAX_INBOX = 64;

type Hello = Extract<Message, { kind: 'hello' }>;
type Append = Extract<Message, { kind: 'append' }>;

export class Backup {
  readonly #context: Context;
  readonly #onGrant: () => void;
  readonly #rebuild: RebuildTarget;
  readonly #inbox: { readonly from: ReplicaId; readonly message: Message }[] = [];
  #working = false;
  #ended = false;
  /** The end of what is known to be the primary's log too, and in which epoch. */
  #agreed: { readonly epoch: Epoch; readonly point: Point } | undefined;

  constructor(context: Context, onGrant: () => void) {
    this.#context = context;
    this.#onGrant = onGrant;
    this.#rebuild = new RebuildTarget(context.store);
  }

  end(): void {
    this.#ended = true;
    this.#inbox.length = 0;
  }

  receive(from: ReplicaId, message: Message): void {
    const { store, decisions } = this.#context;
    if (message.kind === 'status' || message.kind === 'nack') return;
    if (!decisions.acceptsEpoch(store.promised, message.epoch)) {
      this.#context.send(from, { kind: 'nack', epoch: store.promised });
      return;
    }
    if (message.kind === 'hello') this.#context.start(this.#greet(from, message));
    else if (this.#isObeyed(message.epoch) && this.#inbox.length < MAX_INBOX) {
      this.#inbox.push({ from, message });
      if (!this.#working) this.#context.start(this.#work());
    }
  }

  /** A message counts only in the epoch that is promised on disk. */
  #isObeyed(epoch: Epoch): boolean {
    const { store, decisions } = this.#context;
    return !this.#ended && decisions.acceptsEpoch(store.promised, epoch) && epoch <= store.promised;
  }

  *#greet(from: ReplicaId, hello: Hello): Task {
    const { store, membership } = this.#context;
    if (hello.epoch > store.promised) yield* store.saveSuperblock({ promised: hello.epoch });
    if (!this.#isObeyed(hello.epoch)) return;
    this.#learnCommitted(hello);
    // Whoever may hold the seat, or knows of a later holder, lends nothing to an earlier one.
    if (membership.proposal !== undefined || hello.epoch < (membership.config?.epoch ?? 0n)) return;
    this.#onGrant();
    this.#sendStatus(from, hello.epoch, hello.beat);
  }

  #sendStatus(to: ReplicaId, epoch: Epoch, beat?: number): void {
    const { store } = this.#context;
    const { usable, intact, durable, committed } = store;
    const status = { usable, intact, durable, committed, rebuild: this.#rebuild.progress(epoch) };
    this.#context.send(to, { kind: 'status', epoch, beat, status });
  }

  *#work(): Task {
    this.#working = true;
    for (let item = this.#inbox.shift(); item !== undefined; item = this.#inbox.shift()) {
      const { from, message } = item;
      if (!this.#isObeyed(message.epoch)) continue;
      if (message.kind === 'append') yield* this.#append(message);
      // A replica that may already hold the primary's seat keeps what it has.
      else if (this.#context.membership.proposal === undefined) yield* this.#rebuild.receive(message);
      if (this.#isObeyed(message.epoch)) this.#sendStatus(from, message.epoch);
    }
    this.#working = false;
  }

  *#append(message: Append): Task {
    const { store } = this.#context;
    const decoded = decodeBatch(message.parts.length === 1 ? message.parts[0]! : Buffer.concat(message.parts));
    if (!decoded.ok || decoded.value.volume !== store.identity.volume) return;
    const batch = decoded.value;
    yield* store.growFor(batch);
    yield* until(() => store.isQuiet || !this.#isObeyed(message.epoch));
    if (!this.#isObeyed(message.epoch)) return;
    if (!store.usable && this.#rebuild.progress(message.epoch) === undefined) return;
    if (!store.log.has(batch.end)) {
      const previous = { lsn: toLsn(batch.firstLsn - 1n), hash: batch.previousHash, epoch: batch.epoch };
      if (!store.log.has(previous)) return;
      if (previous.lsn < store.committed.lsn) {
        // The primary has decided otherwise about what this replica holds for committed: one of the two is damaged.
        store.condemn();
        return;
      }
      if (!samePoint(store.log.last, previous)) yield* store.truncate(previous);
      // What the batch follows is the primary's too; knowing it committed may be what makes room in a full ring.
      this.#agree(message, store.log.last);
      yield* until(() => store.canAppend(sizeOf(batch)) || !this.#isObeyed(message.epoch));
      if (!this.#isObeyed(message.epoch)) return;
      yield* this.#write(batch);
    }
    this.#agree(message, batch.end);
  }

  #agree(message: Append, point: Point): void {
    const known = this.#agreed?.epoch === message.epoch ? this.#agreed.point : undefined;
    if (known === undefined || isAfter(point, known)) this.#agreed = { epoch: message.epoch, point };
    this.#learnCommitted(message);
  }

  *#write(batch: Batch): Task {
    const { store } = this.#context;
    store.addToOverlay(batch);
    this.#rebuild.noteLogged(batch);
    yield* store.append(batch);
  }

  /** The primary's commit point counts as far as this log is known to be the primary's. */
  #learnCommitted(message: Hello | Append): void {
    const { log, durable } = this.#context.store;
    if (log.has(message.committed)) this.#commit(message.committed, durable);
    else if (this.#agreed?.epoch === message.epoch) {
      const { point } = this.#agreed;
      const limit = isAfter(point, message.committed) ? message.committed : point;
      const boundary = log.boundaryBefore(limit.lsn);
      if (boundary) this.#commit(boundary, durable);
    }
  }

  #commit(point: Point, durable: Point): void {
    if (point.lsn <= durable.lsn) this.#context.store.commit(point);
  }
}

function isAfter(a: Point, b: Point): boolean {
  return a.lsn > b.lsn;
}
