/** A pool whose disk is missing: nothing is made in its place. */
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../../src/base/clock.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { ok } from '../../../src/base/result.ts';
import { keepPools, type NodePoolsOptions } from '../../../src/controllers/block/node-pools.ts';
import { expectDisk, identifyDisk } from '../../../src/controllers/block/pool-disk.ts';
import type { BlockPool, BlockVolume } from '../../../src/protocol/block-resources.ts';
import { eventually } from '../../support/eventually.ts';
import { NodeReplicasUnderTest } from '../../support/node-replicas.ts';

describe('the disk of a pool', () => {
  let stop: AbortController;
  let root: string;
  let directory: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'union-pool-'));
    directory = join(root, 'pool');
    mkdirSync(directory);
    stop = new AbortController();
  });

  afterEach(() => rmSync(root, { recursive: true, force: true }));

  /** As when it is not mounted. */
  function takeAway(): void {
    renameSync(directory, join(root, 'elsewhere'));
    mkdirSync(directory);
  }

  function bringBack(): void {
    rmSync(directory, { recursive: true });
    renameSync(join(root, 'elsewhere'), directory);
  }

  function poolWith(diskId: string | undefined): BlockPool {
    return {
      apiVersion: 'union.csi.dev/v1alpha1',
      kind: 'BlockPool',
      metadata: { name: 'default.node-1' },
      spec: { node: 'node-1', pool: 'default', directory },
      status: { capacityBytes: '1', peerAddress: '', exportAddress: '', lastSeen: '', ...(diskId && { diskId }) },
    };
  }

  async function failure(promise: Promise<unknown>): Promise<string> {
    return await promise.then(
      () => '',
      (error: Error) => error.message,
    );
  }

  it('has one id for ever, and is told from a missing one and from another', async () => {
    const id = await identifyDisk(directory);
    expect(await identifyDisk(directory)).to.equal(id);
    await expectDisk(directory, poolWith(id));
    takeAway();
    const missing = await failure(expectDisk(directory, poolWith(id)));
    expect(missing).to.include(`${directory} is not on the disk that it was on`);
    expect(missing).to.include(
      `bring back the disk ${id}, or, if it is gone for good, delete BlockPool default.node-1`,
    );
    const other = await identifyDisk(directory);
    expect(await failure(expectDisk(directory, poolWith(id)))).to.include(`has the disk ${other}`);
    for (const unknown of [undefined, poolWith(undefined)]) await expectDisk(directory, unknown);
  });

  it('is told of while it is there only', async () => {
    let known: BlockPool | undefined;
    let looks = 0;
    // As far as it is used.
    const repository = {
      get: async () => {
        looks++;
        return known;
      },
      create: async (pool: BlockPool) => {
        known = pool;
        return ok(pool);
      },
      patchStatusMerge: async (_: object, { status }: Pick<BlockPool, 'status'>) => {
        known = { ...known!, status: status! };
        return ok(known);
      },
    };
    const clock = { ...systemClock, sleep: (_: number, signal: AbortSignal) => systemClock.sleep(5, signal) };
    const pools = [{ name: 'default', directory, limitBytes: undefined }];
    const addresses = { peerAddress: 'a:1', exportAddress: 'a:2' };
    const options = { node: 'node-1', pools, addresses, repository, clock, log: silentLogger };
    const { signal } = stop;
    const running = keepPools(options as unknown as NodePoolsOptions, signal);
    const seesIt = () => known?.status?.diskId !== undefined;
    try {
      await eventually('the pool', seesIt);
      takeAway();
      const { lastSeen } = known!.status!;
      const before = looks;
      await eventually('some looks', () => looks > before + 3);
      const told = known!.status!.lastSeen;
      const later = looks;
      await eventually('some more', () => looks > later + 3);
      expect(known!.status!.lastSeen).to.equal(told);
      expect(readdirSync(directory)).to.deep.equal([]);
      bringBack();
      await eventually('the pool again', () => known!.status!.lastSeen > lastSeen && known!.status!.lastSeen > told);
    } finally {
      stop.abort();
      await running;
    }
  });

  it('that is missing gets no replica in its place, and the volume says so', async () => {
    const id = await identifyDisk(directory);
    takeAway();
    const volume: BlockVolume = {
      apiVersion: 'union.csi.dev/v1alpha1',
      kind: 'BlockVolume',
      metadata: { name: 'bv-1', uid: '01234567-89ab-cdef-0123-456789abcdef' },
      spec: { volumeName: 'v', capacityBytes: String(2 ** 24), pool: 'default', minInSync: 1, members: ['node-1'] },
      status: { replicas: { 'node-1': { phase: 'Ready' } } },
    };
    const node = new NodeReplicasUnderTest({ node: 'node-1', directory, pool: poolWith(id) });
    const reported = () => node.patches[0]?.replicas?.['node-1'];
    try {
      node.change(volume);
      await eventually('a report', () => reported() !== undefined);
      expect(reported()!.phase).to.equal('Failed');
      expect(reported()!.message).to.include('is not on the disk that it was on');
      expect(readdirSync(directory)).to.deep.equal([]);
    } finally {
      await node.close();
    }
  });
});
