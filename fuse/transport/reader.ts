/**
 * A reader: a worker thread that reads requests from its descriptor of the connection, does them, and replies, one at a time,
 * until the connection ends (ENODEV). A request that fails inside is answered EIO; one that is not known, ENOSYS.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { REQUEST_BYTES, REQUEST_COUNTER_WORDS, State, WORD } from '../inode/state.ts';
import { Context, NO_REPLY } from '../ops/context.ts';
import { type Operation, operations } from '../ops/dispatch.ts';
import { takeBack } from '../ops/take-back.ts';
import { IN, OP, OUT } from '../protocol/abi.ts';
import { CLONE_FS, EAGAIN, EINTR, EIO, ENODEV, ENOENT, ENOSYS, errnoName } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { ReaderData, ReaderMessage } from './messages.ts';
import { Meter } from './meter.ts';

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

run(workerData as ReaderData);

function run(data: ReaderData): void {
  const state = State.attach(data.stateFd, data.thread);
  const { thread, deviceFd: device, config } = data;
  const context = new Context({ state, thread, device, config, log });
  prepareThread(context, data.cpu);
  serve(context, operations(config.policies), new Meter(data.meters, thread));
}

/** A umask of its own (the process's is shared otherwise), capabilities that stay, and one CPU. */
function prepareThread(context: Context, cpu: number): void {
  const unshared = libc.unshare(CLONE_FS);
  if (unshared < 0) log.warn('umask_shared', { error: errnoName(-unshared) });
  const kept = libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
  if (kept < 0) log.warn('capabilities_not_kept', { error: errnoName(-kept) });
  if (cpu >= 0) {
    context.u8.fill(0, context.path, context.path + 128);
    context.u8[context.path + (cpu >> 3)] = 1 << (cpu & 7);
    libc.schedSetaffinity(0, 128, context.base + context.path);
  }
}

function serve(context: Context, table: readonly (Operation | undefined)[], meter: Meter): void {
  const { device, base, request, u32 } = context;
  const counter = WORD.requests + context.thread * REQUEST_COUNTER_WORDS;
  const opcodeAt = (request + IN.opcode) >>> 2;
  for (;;) {
    const bytes = libc.read(device, base + request, REQUEST_BYTES);
    if (bytes < 0) {
      // ENOENT: the request was interrupted before it was read.
      if (bytes === -EINTR || bytes === -EAGAIN || bytes === -ENOENT) continue;
      if (bytes !== -ENODEV) log.error('device_read_failed', { error: errnoName(-bytes) });
      return;
    }
    const begun = meter.begin();
    u32[counter]!++;
    if (u32[counter] === 0) u32[counter + 1]!++;
    const opcode = u32[opcodeAt]!;
    const result = perform(context, table[opcode], opcode);
    if (result !== NO_REPLY) reply(context, opcode, result);
    if (opcode === OP.INIT) send({ kind: 'initialised' });
    meter.end(opcode, begun);
    meter.setUnknownNames(context.unknownNames);
  }
}

function perform(context: Context, operation: Operation | undefined, opcode: number): number {
  if (operation === undefined) return -ENOSYS;
  // Only INIT may name no inode.
  if (
    opcode !== OP.INIT &&
    opcode !== OP.BATCH_FORGET &&
    opcode !== OP.INTERRUPT &&
    opcode !== OP.DESTROY &&
    !context.inodes.isUsed(context.slot)
  )
    return opcode === OP.FORGET ? NO_REPLY : opcode === OP.STATFS ? operation(context) : -EIO;
  context.directories.begin(!context.exclusive);
  try {
    return operation(context);
  } catch (error) {
    context.state.releaseOwnLocks();
    log.error('operation_failed', {
      opcode,
      node: context.slot,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    return opcode === OP.FORGET || opcode === OP.BATCH_FORGET ? NO_REPLY : -EIO;
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
  const written = libc.write(device, base + context.reply, length);
  if (written >= 0 || written === -ENODEV) return;
  // The caller was killed meanwhile: what the reply handed out comes back.
  if (written === -ENOENT) takeBack(context, opcode, result);
  else log.error('reply_refused', { opcode, result, error: errnoName(-written) });
}
