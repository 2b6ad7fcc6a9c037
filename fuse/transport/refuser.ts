/**
 * A worker thread that answers every request of a connection with EIO, until the connection ends (refusal.ts): those that dead servers
 * had read by the descriptors that read them, as these have their queues, and what comes by a descriptor of its own.
 */
import { readSync, writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { MAX_READERS, REQUEST_BYTES, THREAD_BYTES, THREADS_AT } from '../inode/layout.ts';
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
  for (let thread = 0; stateFd !== undefined && thread < MAX_READERS; thread++) {
    readSync(stateFd, request, 0, IN.size, THREADS_AT + thread * THREAD_BYTES);
    if (request.readUInt32LE(IN.length) !== 0) refuse(devices[thread % devices.length]!, request);
  }
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

function refuse(device: number, request: Buffer): void {
  if (WITHOUT_REPLY.has(request.readUInt32LE(IN.opcode))) return;
  const reply = Buffer.alloc(OUT.size);
  reply.writeUInt32LE(OUT.size, 0);
  reply.writeInt32LE(-EIO, 4);
  request.copy(reply, 8, IN.unique, IN.unique + 8);
  try {
    writeSync(device, reply);
  } catch {
    // It was answered, or its caller has gone.
  }
}

run(workerData);
