/** What a node removes of a volume whose configuration does not name it any more. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { identityOf, removeFormerReplica } from '../../../src/controllers/block/node-replica.ts';
import { createReplica } from '../../../src/host/block/replica-files.ts';
import type { BlockVolume } from '../../../src/protocol/block-resources.ts';
import { eventually } from '../../support/eventually.ts';
import { NodeReplicasUnderTest } from '../../support/node-replicas.ts';

const volume: BlockVolume = {
  apiVersion: 'union.csi.dev/v1alpha1',
  kind: 'BlockVolume',
  metadata: { name: 'bv-1', uid: '01234567-89ab-cdef-0123-456789abcdef' },
  spec: { volumeName: 'v', capacityBytes: String(16 * 1024 ** 2), pool: 'default', minInSync: 1, members: ['node-1'] },
};

describe('removeFormerReplica', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'union-former-'));
  });

  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('removes the replica of this node, also one that was never finished', async () => {
    for (const isFinished of [true, false]) {
      const place = join(directory, 'bv-1');
      mkdirSync(place);
      if (isFinished) await createReplica(join(place, 'replica'), identityOf(volume, 'node-2'), 'blank');
      expect(await removeFormerReplica(place, volume, 'node-2')).to.equal(true);
      expect(existsSync(place)).to.equal(false);
    }
  });

  it('leaves that of another node alone, whose disk has come here', async () => {
    const files = join(directory, 'replica');
    await createReplica(files, identityOf(volume, 'node-1'), 'empty');
    expect(await removeFormerReplica(directory, volume, 'node-2')).to.equal(false);
    expect(existsSync(files)).to.equal(true);
  });
});

describe('a former member', () => {
  /** node-2 has been a member; node-3 has its place now. */
  const moved: BlockVolume = {
    ...volume,
    spec: { ...volume.spec, members: ['node-1', 'node-3'] },
    status: {
      config: { version: 5, epoch: '2', primary: 'node-1', inSync: ['node-1'], members: ['node-1', 'node-3'] },
      replicas: { 'node-2': { phase: 'Ready' } },
    },
  };
  const complete = {
    ...moved,
    status: { ...moved.status, config: { ...moved.status!.config!, inSync: ['node-1', 'node-3'] } },
  };
  const deleted = { ...moved, metadata: { ...moved.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } };

  for (const [what, next] of [
    ['who has its place has all of the volume', complete],
    ['the volume is deleted', deleted],
  ] as const) {
    it(`keeps its files until ${what}`, async () => {
      const pool = mkdtempSync(join(tmpdir(), 'union-former-'));
      const node = new NodeReplicasUnderTest({ node: 'node-2', directory: pool });
      const isForgotten = () => node.patches.some(({ replicas }) => replicas && 'node-2' in replicas);
      try {
        const files = join(pool, 'bv-1', 'replica');
        mkdirSync(join(pool, 'bv-1'));
        await createReplica(files, identityOf(volume, 'node-2'), 'empty');
        node.change(moved);
        await eventually('the volume to be looked at', () => node.reads >= 2);
        // It is looked at anew when that has been dealt with.
        node.change(moved);
        await eventually('the volume to be looked at again', () => node.reads >= 3);
        expect([existsSync(files), isForgotten()]).to.deep.equal([true, false]);
        node.change(next);
        await eventually('its files to go', isForgotten);
        expect(existsSync(files)).to.equal(false);
      } finally {
        await node.close();
        rmSync(pool, { recursive: true, force: true });
      }
    });
  }
});
