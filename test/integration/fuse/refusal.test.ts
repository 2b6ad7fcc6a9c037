/** Requests that a dead server had read, at a refuser: replies that were whole are written, all else is EIO. */
import { execFile } from 'node:child_process';
import { read, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { PHASE } from '../../../fuse/inode/journal.ts';
import { REPLY_BYTES, REQUEST_BYTES, SCRATCH_BYTES, THREAD_BYTES, THREADS_AT } from '../../../fuse/inode/layout.ts';
import { IN, OP, OUT } from '../../../fuse/protocol/abi.ts';
import type { Refuser } from '../../../src/csi/held-union.ts';
import { startRefuser } from '../../../src/main/server-refuse.ts';
import { KeptUnion } from '../../support/kept-union.ts';
import { fuse, loop, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));
const run = promisify(execFile);
const EACCES = 13;
const WITHOUT_REPLY: readonly number[] = [OP.FORGET, OP.BATCH_FORGET, OP.INTERRUPT];

describe('a refuser', () => {
  let union: KeptUnion;
  let refuser: Refuser | undefined;

  before(function () {
    needs(this, fuse, loop);
  });

  beforeEach(async () => {
    union = new KeptUnion({ sizesBytes: [16 << 20] });
    await union.start();
    await union.kill();
  });

  afterEach(async () => {
    await union.close();
    await refuser?.ended;
  });

  /** As a server's reader of this number that died right after: the request it had read, and how far it had come. */
  async function readAs(thread: number, phase: number): Promise<void> {
    const request = Buffer.alloc(REQUEST_BYTES);
    let length = 0;
    do ({ bytesRead: length } = await promisify(read)(union.devices[thread]!, request, 0, REQUEST_BYTES, null));
    while (WITHOUT_REPLY.includes(request.readUInt32LE(IN.opcode)));
    const reply = Buffer.alloc(OUT.size);
    reply.writeUInt32LE(OUT.size, OUT.length);
    reply.writeInt32LE(-EACCES, OUT.error);
    request.copy(reply, OUT.unique, IN.unique, IN.unique + 8);
    const area = THREADS_AT + thread * THREAD_BYTES;
    writeSync(union.state, reply, 0, reply.length, area + REQUEST_BYTES);
    writeSync(union.state, Uint32Array.of(phase), 0, 4, area + REQUEST_BYTES + REPLY_BYTES + SCRATCH_BYTES);
    writeSync(union.state, request, 0, length, area);
  }

  /** What a program is told. */
  const ask = async (name: string) => {
    const { stderr } = await run('stat', [join(union.mountpoint, name)]).catch((error: { stderr: string }) => error);
    return stderr.trim().split(': ').at(-1);
  };

  it('writes the replies that a dead server had whole, and refuses what it had not done', async () => {
    const replied = ask('replied');
    await readAs(0, PHASE.replying);
    const begun = ask('begun');
    await readAs(1, PHASE.working);
    refuser = startRefuser([union.state, ...union.devices], [program]);
    expect(await Promise.all([replied, begun, ask('new')])).to.deep.equal([
      'Permission denied',
      'Input/output error',
      'Input/output error',
    ]);
  });
});
