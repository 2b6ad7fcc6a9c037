/** Servers that make way under load, asked or killed: nobody notices, and who was asked has finished what it had begun. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { Journal, PHASE } from '../../../fuse/inode/journal.ts';
import { MAIN_THREAD, MAX_READERS, TOTAL_BYTES } from '../../../fuse/inode/layout.ts';
import { requestCount } from '../../../fuse/inode/progress.ts';
import { State } from '../../../fuse/inode/state.ts';
import { munmap } from '../../../fuse/sys/libc.ts';
import { HAND_OVER_LIMIT_MS } from '../../../fuse/transport/session.ts';
import { KeptUnion } from '../../support/kept-union.ts';
import { hasEnded, until } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';

const client = fileURLToPath(new URL('../../support/chaos-client.ts', import.meta.url));
const ROUNDS = 3;

for (const way of ['asked to make way', 'killed'] as const)
  describe(`a union through which all data goes, and whose server is ${way} at its work`, () => {
    let union: KeptUnion;

    before(async function () {
      needs(this, fuse, loop);
      union = new KeptUnion({ sizesBytes: [32 * 1024 ** 2, 32 * 1024 ** 2], passthrough: false });
      await union.start();
    });

    after(async () => {
      await union.close();
      expect(union.output).to.equal('');
    });

    const begin = async (kind: string) => {
      const folder = join(union.mountpoint, kind);
      await mkdir(folder);
      const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', client, kind, folder, '1']);
      child.stderr.pipe(process.stderr);
      return child;
    };

    it('goes on, and all is done once', async () => {
      const state = State.attach(union.state, MAIN_THREAD);
      const journals = Array.from({ length: MAX_READERS }, (_, thread) => new Journal(state, thread));
      const clients = await Promise.all(['storm', 'append', 'sqlite'].map(begin));
      const worked = async () => {
        const goal = requestCount(state) + 200;
        await until(() => requestCount(state) >= goal);
      };
      await worked();
      for (let round = 0; round < ROUNDS; round++) {
        if (way === 'killed') await union.kill();
        else {
          const tookMs = await union.handOver();
          // What a reader got at the last moment it has not begun. An fsync may take longer than a server waits for it.
          const phases = journals.map(({ phase }) => phase);
          if (tookMs < HAND_OVER_LIMIT_MS) expect(phases, `hand-over ${round}`).not.to.include(PHASE.working);
        }
        await union.start();
        await worked();
        expect(clients.some(hasEnded), 'a client failed').to.equal(false);
      }
      for (const child of clients) child.stdin.end();
      for (const child of clients) if (!hasEnded(child)) await once(child, 'exit');
      expect(clients.map(({ exitCode }) => exitCode)).to.deep.equal([0, 0, 0]);
      munmap(state.base, TOTAL_BYTES);
    });
  });
