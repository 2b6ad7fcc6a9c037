/**
 * A union for tests of what is around the filesystem: an empty root directory that answers stat and statfs, served by this
 * process over /dev/fuse. Its reads wait in libuv's pool, one thread each, so few at a time; never touch its mount
 * synchronously from the test's process, but from programs that it starts.
 * Source: struct fuse_in_header, fuse_init_out, fuse_attr_out, fuse_kstatfs of linux/fuse.h.
 */
import { closeSync, fstatSync, ftruncateSync, read, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import type { OpenOptions, ServedUnion } from '../../src/host/union-server.ts';

const readAsync = promisify(read);

const [LOOKUP, FORGET, GETATTR, STATFS, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET] = [
  1, 2, 3, 17, 26, 27, 28, 29, 36, 38, 42,
];

export function nullUnion({ state }: OpenOptions): ServedUnion {
  return {
    branches: async () => [],
    addBranch: async () => {},
    close: async () => {
      if (state !== undefined) closeSync(state);
    },
    serve: async ({ devices }) => {
      const initialised = Promise.withResolvers<void>();
      const ended = answerAll(devices[0]!, initialised.resolve).finally(() => {
        initialised.reject(new Error('unmounted before INIT'));
      });
      ended.catch(() => {});
      // All that this union has to remember: the kernel speaks its INIT to the first server only.
      const isTakenOver = fstatSync(state!).size > 0;
      if (!isTakenOver) await initialised.promise;
      ftruncateSync(state!, 1);
      return { ended, handOver: async () => {} };
    },
  };
}

async function answerAll(device: number, onInit: () => void): Promise<void> {
  const buffer = Buffer.alloc(1024 * 1024);
  for (;;) {
    try {
      await readAsync(device, buffer, 0, buffer.length, null);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENODEV') return; // unmounted
      throw error;
    }
    const opcode = buffer.readUInt32LE(4);
    if (opcode === FORGET || opcode === BATCH_FORGET || opcode === INTERRUPT) continue;
    const [error, body] = answer(opcode);
    const reply = Buffer.alloc(16 + body.length);
    reply.writeUInt32LE(reply.length, 0);
    reply.writeInt32LE(error, 4);
    buffer.copy(reply, 8, 8, 16); // unique
    body.copy(reply, 16);
    writeSync(device, reply);
    if (opcode === INIT) onInit();
  }
}

function answer(opcode: number): [error: number, body: Buffer] {
  switch (opcode) {
    case INIT:
      return [0, initReply()];
    case GETATTR:
      return [0, rootAttributes()];
    case STATFS:
      return [0, statfsReply()];
    case OPENDIR:
      return [0, Buffer.alloc(16)];
    case READDIR:
    case RELEASEDIR:
    case DESTROY:
      return [0, Buffer.alloc(0)];
    case LOOKUP:
      return [-2, Buffer.alloc(0)];
    default:
      return [-38, Buffer.alloc(0)];
  }
}

function initReply(): Buffer {
  const body = Buffer.alloc(64);
  body.writeUInt32LE(7, 0);
  body.writeUInt32LE(31, 4);
  body.writeUInt16LE(16, 16);
  body.writeUInt16LE(12, 18);
  body.writeUInt32LE(64 * 1024, 20);
  body.writeUInt32LE(1, 24);
  return body;
}

function rootAttributes(): Buffer {
  const body = Buffer.alloc(16 + 88);
  body.writeBigUInt64LE(1n, 16);
  body.writeUInt32LE(0o40755, 16 + 60);
  body.writeUInt32LE(2, 16 + 64);
  return body;
}

/** 1000 blocks of 4096 bytes, 400 free, 300 of them available; 50 of 100 inodes free. */
function statfsReply(): Buffer {
  const body = Buffer.alloc(80);
  for (const [index, value] of [1000n, 400n, 300n, 100n, 50n].entries()) body.writeBigUInt64LE(value, index * 8);
  body.writeUInt32LE(4096, 40);
  body.writeUInt32LE(255, 44);
  body.writeUInt32LE(4096, 48);
  return body;
}
