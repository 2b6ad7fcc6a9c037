import { expect } from 'chai';
import { isInSyncOn, summarise } from '../../../../src/block/driver/volume-status.ts';
import type { BlockVolume, BlockVolumeStatus } from '../../../../src/protocol/block-resources.ts';

const ready = { phase: 'Ready' } as const;

function volume(status: BlockVolumeStatus | undefined, deletionTimestamp?: string): BlockVolume {
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'BlockVolume',
    metadata: { name: 'bv-1', ...(deletionTimestamp && { deletionTimestamp }) },
    spec: { volumeName: 'v', capacityBytes: '4096', pool: 'default', minInSync: 1, members: ['a', 'b'] },
    ...(status && { status }),
  };
}

function config(primary: string, ...inSync: string[]): NonNullable<BlockVolumeStatus['config']> {
  return { version: 3, epoch: '2', primary, inSync, members: ['a', 'b'] };
}

describe('summarise', () => {
  it('is pending until every node has made its replica once, and says whose is missing', () => {
    expect(summarise(volume(undefined)).phase).to.equal('Pending');
    const summary = summarise(volume({ replicas: { a: ready, b: { phase: 'Making' } } }));
    expect(summary).to.include({ phase: 'Pending', message: 'b has not made its replica yet' });
  });

  it('is ready when all are in sync, and says who serves', () => {
    const summary = summarise(volume({ replicas: { a: ready, b: ready }, config: config('b', 'a', 'b') }));
    expect(summary).to.include({ phase: 'Ready', message: '2 replicas in sync, served by b' });
  });

  it('is degraded when a replica is behind or has failed, and stays usable', () => {
    const behind = summarise(volume({ phase: 'Ready', replicas: { a: ready, b: ready }, config: config('a', 'a') }));
    expect(behind).to.include({ phase: 'Degraded', message: '1 of 2 replicas in sync; b is not in sync' });
    const broken = { a: ready, b: { phase: 'Failed', message: 'no space' } } as const;
    const failed = summarise(volume({ phase: 'Ready', replicas: broken, config: config('a', 'a') }));
    expect(failed).to.include({ phase: 'Degraded', message: '1 of 2 replicas in sync; b: no space' });
  });

  it('goes by the members of the configuration, and says what is done about one that is lost', () => {
    const replaced = { ...config('a', 'a'), members: ['a', 'c'] };
    const status: BlockVolumeStatus = { phase: 'Ready', replicas: { a: ready, b: ready }, config: replaced };
    const message = '1 of 2 replicas in sync; c has not made its replica yet';
    expect(summarise(volume(status)).message).to.equal(message);
    expect(summarise(volume(status), 'c is gone').message).to.equal(`${message}; c is gone`);
    const whole = { ...status, replicas: { a: ready, c: ready }, config: { ...replaced, inSync: ['a', 'c'] } };
    expect(summarise(volume(whole), 'c is gone')).to.include({
      phase: 'Ready',
      message: '2 replicas in sync, served by a',
    });
  });

  it('names who still has a replica of a volume that is being deleted', () => {
    const summary = summarise(volume({ phase: 'Ready', replicas: { b: ready } }, '2026-01-01T00:00:00Z'));
    expect(summary).to.include({ phase: 'Deleting', message: 'b still has a replica' });
  });
});

describe('isInSyncOn', () => {
  it('is so on a member in sync, on all before there is a configuration, and on nodes that have nothing of it', () => {
    expect(isInSyncOn(volume(undefined), 'a')).to.equal(true);
    expect(isInSyncOn(volume({ config: config('b', 'b') }), 'b')).to.equal(true);
    expect(isInSyncOn(volume({ config: config('b', 'b') }), 'a')).to.equal(false);
    expect(isInSyncOn(volume({ config: config('b', 'b') }), 'c')).to.equal(true);
  });
});
