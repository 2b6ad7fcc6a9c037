/**
 * A worker thread that answers every request of a connection with EIO, until the connection ends (refusal.ts): those that dead servers
 * had read by the descriptors that read them, as these have their queues, and what comes by a descriptor of its own.
 */
import { readSync, writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { PHASE } from '../inode/journal.ts';
import { MAX_READERS, REPLY_BYTES, REQUEST_BYTES, SCRATCH_BYTES, THREAD_BYTES, THREADS_AT } from '../inode/layout.ts';
import { IN, OP, OUT } from '../protocol/abi.ts';
import { EIO } from '../sys/constants.ts';
import { cloneDevice } from './device.ts';

export interface RefuserData {
  /** Undefined when it is not known where requests are in it. */
  readonly stateFd: number | undefined;
  readonly devices: readonly number[];
}

const WITHOUT_REPLY: ReadonlySet<number> = new Set([OP.FORGET, OP.BATCH_FORGET, OP.INTERRUPT]);

function run({ stateFd, devices }: RefuserData): void {
  const request = Buffer.alloc(REQUEST_BYTES);
  for (let thread = 0; stateFd !== undefined && thread < MAX_READERS; thread++)
    settle(stateFd, thread, devices[thread % devices.length]!, request);
  const [device] = cloneDevice(devices[0]!, 2);
  for (;;) {
    try {
      readSync(device!, request);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // ENOENT: the request was interrupted before it was read.
      if (code === 'EINTR' || code === 'EAGAIN' || code === 'ENOENT') continue;
      return;
    }
    refuse(device!, request);
  }
}

/** What a dead server's reader was at: a reply that is whole, and may have handed out what the tables count, is written. */
function settle(stateFd: number, thread: number, device: number, buffer: Buffer): void {
  const area = THREADS_AT + thread * THREAD_BYTES;
  const word = (offset: number) => {
    readSync(stateFd, buffer, 0, 4, area + offset);
    return buffer.readUInt32LE(0);
  };
  if (word(IN.length) === 0) return;
  if (word(REQUEST_BYTES + REPLY_BYTES + SCRATCH_BYTES) === PHASE.replying) {
    const length = word(REQUEST_BYTES);
    readSync(stateFd, buffer, 0, length, area + REQUEST_BYTES);
    answer(device, buffer.subarray(0, length));
  } else {
    readSync(stateFd, buffer, 0, IN.size, area);
    refuse(device, buffer);
  }
}

function refuse(device: number, request: Buffer): void {
  if (WITHOUT_REPLY.has(request.readUInt32LE(IN.opcode))) return;
  const reply = Buffer.alloc(OUT.size);
  reply.writeUInt32LE(OUT.size, OUT.length);
  reply.writeInt32LE(-EIO, OUT.error);
  request.copy(reply, OUT.unique, IN.unique, IN.unique + 8);
  answer(device, reply);
}

function answer(device: number, reply: Buffer): void {
  try {
    writeSync(device, reply);
  } catch {
    // It was answered, or its caller has gone.
  }
}

run(workerData);
