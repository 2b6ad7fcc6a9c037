/** Mutual TLS between replicas, as processes, with certificates of `union-csi block-ca`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { makeCertificates } from '../../src/main/block-ca.ts';
import { ReplicaProcesses } from '../support/replica-processes.ts';

describe('TLS between replicas', function () {
  this.timeout(120_000);
  let replicas: ReplicaProcesses | undefined;
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'union-block-tls-'));
  });

  afterEach(async function () {
    await replicas?.close();
    rmSync(folder, { recursive: true });
    if (this.currentTest?.state === 'failed') process.stderr.write(replicas?.said ?? '');
  });

  /** `shown` says whose certificate each replica shows. */
  async function start(shown: Readonly<Record<string, string>>): Promise<ReplicaProcesses> {
    replicas = await ReplicaProcesses.start(Object.keys(shown), {
      blocks: 4096,
      arguments: (id) => ['--peer-tls', join(folder, shown[id]!)],
    });
    return replicas;
  }

  it('carries what replicas of one authority tell each other', async () => {
    await makeCertificates(folder, ['a', 'b']);
    const both = await start({ a: 'a', b: 'b' });
    const id = await both.use(async (client, primary) => {
      await client.write(0, Buffer.alloc(BLOCK_SIZE, 7), true);
      return primary;
    });
    await both.allInSync();
    await both.kill(id);
    expect(await both.use(async (other) => (await other.read(0, 1))[0], both.others(id))).to.equal(7);
  });

  it('leaves alone who shows the certificate of another', async () => {
    await makeCertificates(folder, ['a']);
    const both = await start({ a: 'a', b: 'a' });
    // Neither hears the other, so whoever leads goes on alone.
    await both.inSync('one is alone', ({ length }) => length === 1);
    const id = await both.use(async (client, primary) => {
      await client.write(0, Buffer.alloc(BLOCK_SIZE, 7), true);
      return primary;
    });
    expect((await both.config()).inSync).to.deep.equal([id]);
  });
});
