/**
 * The sending side of a rebuild (rebuild-target.ts has the other): RESET, then the whole volume as it is committed, one message
 * at a time, then SEAL once the log lane has caught up with what was read. Only *committed* content goes into the base:
 * anything else might be truncated by a later primary, and the target's extents could not take it back. What was never written
 * is not read, and travels as a number. While clients are at work, it rests for as long as each step has taken.
 */
import type { Context } from './context.ts';
import type { Message } from './messages.ts';
import type { Peer } from './peers.ts';
import { ZERO_BLOCK } from './table-page.ts';
import { type Task, until } from './tasks.ts';
import { BEAT_MS, EVICT_MS } from './timing.ts';
import { BLOCK_SIZE, type Epoch, type Point } from './units.ts';

const CHUNK_BLOCKS = 128;
/** Blocks that one message may call zeros without a look at them. */
const MAX_BLANK_BLOCKS = 16_384;

interface Rebuild {
  readonly context: Context;
  readonly epoch: Epoch;
  readonly session: number;
  readonly start: Point;
  /** The volume's size at `start`; what is added later comes with the log. */
  readonly blocks: number;
  readonly peer: Peer;
  readonly send: (message: Message) => void;
  readonly hasEnded: () => boolean;
  readonly clients: ClientTraffic;
}

/** What a rebuild has to know and to tell of those who are served meanwhile. */
export interface ClientTraffic {
  /** When a client has last asked for anything. */
  readonly askedAt: () => number;
  /** This replica cannot read what it should serve. */
  readonly onDamage: () => void;
}

export function* rebuildPeer(rebuild: Rebuild): Task {
  const { peer } = rebuild;
  yield* run(rebuild);
  peer.sent = undefined;
  peer.rebuilding = false;
  if (!peer.status?.usable || !peer.status.intact) peer.rebuildFrom = rebuild.context.now() + EVICT_MS;
}

function* run(rebuild: Rebuild): Task {
  const { context, epoch, session, start, blocks, peer } = rebuild;
  const { store } = context;
  const progress = () => (peer.status?.rebuild?.session === session ? peer.status.rebuild.received : undefined);
  if (peer.status === undefined) return;
  const { usable, durable } = peer.status;
  const reset: Message = { kind: 'reset', epoch, session, start, blocks, seen: { usable, durable } };
  if (!(yield* repeat(rebuild, reset, () => progress() !== undefined))) return;
  peer.sent = start;
  peer.inFlight = 0;
  let index = 0;
  for (let chunk = 0; chunk < blocks; ) {
    const began = context.now();
    const stretches = yield* readRuns(rebuild, chunk, blocks - chunk);
    if (stretches === undefined) return;
    for (const content of stretches) {
      const count = index + 1;
      const message: Message = { kind: 'base', epoch, session, index, lba: chunk, ...content };
      chunk += content.blocks;
      if (!(yield* repeat(rebuild, message, () => progress() === count))) return;
      index = count;
    }
    yield* rest(rebuild, began);
  }
  const { lsn } = store.committed;
  const deadline = context.now() + EVICT_MS;
  const caughtUp = () => peer.status !== undefined && peer.status.durable.lsn >= lsn;
  yield* until(() => rebuild.hasEnded() || caughtUp() || context.now() > deadline);
  if (caughtUp())
    yield* repeat(rebuild, { kind: 'seal', epoch, session, count: index }, () => peer.status?.usable === true);
}

/** The content from `lba` on, of some of these blocks; undefined when there is no sense in going on. */
function* readRuns(rebuild: Rebuild, lba: number, blocks: number): Task<readonly Run[] | undefined> {
  const { context, clients, hasEnded } = rebuild;
  const blank = yield* context.store.blankBlocks(lba, Math.min(MAX_BLANK_BLOCKS, blocks));
  if (blank > 0 && !hasEnded()) return [{ blocks: blank, data: undefined }];
  const content = yield* context.store.read(lba, Math.min(CHUNK_BLOCKS, blocks), 'committed');
  if (hasEnded()) return undefined;
  if (content !== undefined) return runs(content);
  clients.onDamage();
  return undefined;
}

/** Half of the time is the clients', if there are any. */
function* rest({ context, clients, hasEnded }: Rebuild, began: number): Task {
  if (clients.askedAt() < began) return;
  const end = 2 * context.now() - began;
  yield* until(() => hasEnded() || context.now() >= end);
}

/** Sends until it has had its effect; false when that takes too long. */
function* repeat(rebuild: Rebuild, message: Message, done: () => boolean): Task<boolean> {
  const { context, send, hasEnded } = rebuild;
  const deadline = context.now() + EVICT_MS;
  while (!done()) {
    if (hasEnded() || context.now() > deadline) return false;
    send(message);
    const again = context.now() + BEAT_MS;
    yield* until(() => hasEnded() || done() || context.now() >= again);
  }
  return !hasEnded();
}

/** Without data, zeros. */
interface Run {
  readonly blocks: number;
  readonly data: Uint8Array | undefined;
}

/** Cuts content into stretches of zeros, which travel as a number, and of data. */
function runs(content: Uint8Array): readonly Run[] {
  const blocks = content.length / BLOCK_SIZE;
  const isZero = (block: number) => ZERO_BLOCK.equals(content.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE));
  const result: Run[] = [];
  for (let start = 0; start < blocks; ) {
    const zero = isZero(start);
    let end = start + 1;
    while (end < blocks && isZero(end) === zero) end++;
    const data = zero ? undefined : content.subarray(start * BLOCK_SIZE, end * BLOCK_SIZE);
    result.push({ blocks: end - start, data });
    start = end;
  }
  return result;
}
