/** What a node removes of a volume whose configuration does not name it any more. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { identityOf, removeFormerReplica } from '../../../src/controllers/block/node-replica.ts';
import { createReplica } from '../../../src/host/block/replica-files.ts';
import type { BlockVolume } from '../../../src/protocol/block-resources.ts';

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
