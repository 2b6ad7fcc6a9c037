/**
 * A reader: a worker thread that reads requests from its descriptor of the connection, does them, and replies, one at a time,
 * until the connection ends (ENODEV). First it finishes what a dead server's reader of the same number had begun: the reply goes to
 * the same descriptor, for the kernel keeps requests that were read by descriptor.
 */
import { parentPort } from 'node:worker_threads';
import { PHASE } from '../inode/journal.ts';
import { REQUEST_BYTES, WORD } from '../inode/layout.ts';
import { PROGRESS, progressOf } from '../inode/progress.ts';
import { State } from '../inode/state.ts';
import { Context, hasUnfinished, NO_REPLY } from '../ops/context.ts';
import { operations } from '../ops/dispatch.ts';
import { giveBack, type Operations, opcodeOf, perform, resume } from '../ops/request.ts';
import { IN, OP, OUT } from '../protocol/abi.ts';
import { CLONE_FS, EAGAIN, EINTR, ENODEV, ENOENT, errnoName } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { Crowd } from './crowd.ts';
import type { ReaderData, ReaderMessage } from './messages.ts';
import { Meter } from './meter.ts';
import { Scheduling } from './scheduling.ts';
import { Callers, Seat } from './seat.ts';

const MADV_POPULATE_WRITE = 23;
const PR_SET_SECUREBITS = 28;
/** Capabilities stay when the filesystem user id changes: the thread creates as the caller and reaches every directory. */
const SECBIT_NO_SETUID_FIXUP = 4;
const port = parentPort!;
const send = (message: ReaderMessage) => port.postMessage(message);
const log = {
  error: (event: string, fields: Readonly<Record<string, unknown>> = {}) =>
    send({ kind: 'log', level: 'error', event, fields }),
  warn: (event: string, fields: Readonly<Record<string, unknown>> = {}) =>
    send({ kind: 'log', level: 'warn', event, fields }),
};

port.once('message', (data: ReaderData) => run(data));

function run(data: ReaderData): void {
  const state = State.attach(data.stateFd, data.thread);
  const { thread, deviceFd: device, config } = data;
  const context = new Context({ state, thread, device, config, log });
  prepareThread(context);
  const seat = new Seat(new Scheduling(context), {
    reader: thread,
    callers: new Callers(data.callers),
    crowd: new Crowd(state, thread),
    home: data.cpu,
    cpus: data.cpus,
  });
  const table = operations(config.policies);
  if (hasUnfinished(state, thread)) finish(context, table);
  if (Atomics.load(context.i32, WORD.initialised) !== 0) send({ kind: 'serving' });
  serve(context, table, { meter: new Meter(data.meters, thread), seat });
  seat.end();
  context.directories.close();
}

/** The request that a dead server's reader of this number had read. */
function finish(context: Context, table: Operations): void {
  const wasReplying = context.journal.phase === PHASE.replying;
  const result = resume(context, table);
  if (result === NO_REPLY) return;
  if (!wasReplying) reply(context, opcodeOf(context), result);
  // ENOENT: it was written.
  else libc.write(context.device, context.base + context.reply, OUT.size + Math.max(result, 0));
}

/** A umask of its own (the process's is shared otherwise), and capabilities that stay. */
function prepareThread(context: Context): void {
  const unshared = libc.unshare(CLONE_FS);
  if (unshared < 0) log.warn('umask_shared', { error: errnoName(-unshared) });
  // The kernel copies requests into present pages even for a process that is being killed; into others it fails them.
  libc.madvise(context.base + context.request, REQUEST_BYTES, MADV_POPULATE_WRITE);
  const kept = libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
  if (kept < 0) log.warn('capabilities_not_kept', { error: errnoName(-kept) });
}

function serve(context: Context, table: Operations, { meter, seat }: { meter: Meter; seat: Seat }): void {
  const { device, base, request, u32 } = context;
  const progress = progressOf(context.thread);
  const opcodeAt = (request + IN.opcode) >>> 2;
  const callerAt = (request + IN.pid) >>> 2;
  // Where a reader of this number left off, perhaps in the middle of a request.
  u32[progress + PROGRESS.ended] = u32[progress + PROGRESS.begun]!;
  for (;;) {
    context.expectRequest();
    if (context.thread >= u32[WORD.readersWanted]!) return;
    const bytes = libc.read(device, base + request, REQUEST_BYTES);
    if (bytes < 0) {
      // ENOENT: the request was interrupted before it was read.
      if (bytes === -EINTR || bytes === -EAGAIN || bytes === -ENOENT) continue;
      if (bytes !== -ENODEV) log.error('device_read_failed', { error: errnoName(-bytes) });
      return;
    }
    // Another server is to go on, with this request too, as it was not begun.
    if (u32[WORD.readersWanted] === 0) return;
    const begun = meter.begin();
    u32[progress + PROGRESS.begun]!++;
    if (u32[progress + PROGRESS.begun] === 0) u32[progress + PROGRESS.begunHigh]!++;
    const opcode = u32[opcodeAt]!;
    seat.sees(u32[callerAt]!, opcode);
    const result = perform(context, table);
    if (result !== NO_REPLY) reply(context, opcode, result);
    if (opcode === OP.INIT) send({ kind: 'serving' });
    meter.end(opcode, begun);
    meter.setLookedUp(context.lookedUp);
    context.space.renew();
    u32[progress + PROGRESS.ended] = u32[progress + PROGRESS.begun]!;
  }
}

function reply(context: Context, opcode: number, result: number): void {
  const { u32, request, base, device } = context;
  const word = context.reply >>> 2;
  const length = OUT.size + Math.max(result, 0);
  u32[word] = length;
  u32[word + 1] = Math.min(result, 0);
  u32[word + 2] = u32[(request + IN.unique) >>> 2]!;
  u32[word + 3] = u32[(request + IN.unique + 4) >>> 2]!;
  context.journal.replies(result);
  const written = libc.write(device, base + context.reply, length);
  if (written >= 0 || written === -ENODEV) return;
  // The caller was killed meanwhile: what the reply handed out comes back.
  if (written === -ENOENT) giveBack(context);
  else log.error('reply_refused', { opcode, result, error: errnoName(-written) });
}
