/** The embedded lower drivers against real loop devices and mounts: repetition, space, growth, leftovers. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { UnionError } from '../../../src/base/errors.ts';
import { directoryBackend } from '../../../src/embedded/provisioners/directory.ts';
import { loopBackend } from '../../../src/embedded/provisioners/loop.ts';
import { createLowerDriver, type LowerDriver } from '../../../src/embedded/provisioners/lower-driver.ts';
import { mountAt } from '../../../src/host/mountinfo.ts';
import { expectNoLeaks } from '../../support/leaks.ts';
import { loop, needs } from '../../support/skip.ts';

const mebibyte = 1024 ** 2;
const signal = new AbortController().signal;

async function refusal(work: Promise<unknown>): Promise<UnionError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof UnionError) return error;
  throw new Error(`expected a refusal, not ${error}`);
}

describe('embedded lower drivers', () => {
  let dir: string;
  let driver: LowerDriver;

  function create(name: string, mebibytes: number, parameters: Record<string, string> = {}) {
    const request = {
      ...{ name, parameters, capacityRange: { requiredBytes: String(mebibytes * mebibyte) } },
      accessibilityRequirements: { preferred: [{ segments: { 'kubernetes.io/hostname': 'n1' } }] },
    };
    return driver.controller.createVolume(request, signal);
  }

  before(function () {
    needs(this, loop);
  });

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lower-'));
    driver = createLowerDriver(join(dir, 'volumes'), loopBackend);
  });

  afterEach(async () => {
    const node = driver.node('n1');
    await node.unpublishVolume('v1', join(dir, 'target'), signal);
    await node.unstageVolume('v1', join(dir, 'staging'), signal);
    await expectNoLeaks(dir);
    rmSync(dir, { recursive: true });
  });

  it('makes, mounts, unmounts and deletes a volume, however often it is told to', async () => {
    const [staging, target] = [join(dir, 'staging'), join(dir, 'target')];
    mkdirSync(staging);
    const node = driver.node('n1');
    for (let again = 0; again < 3; again++) {
      const volume = await create('v1', 8);
      expect(volume).to.deep.include({ volumeId: 'v1', capacityBytes: String(8 * mebibyte) });
      expect(volume.accessibleTopology).to.deep.equal([{ segments: { 'kubernetes.io/hostname': 'n1' } }]);
    }
    for (let again = 0; again < 3; again++)
      await node.stageVolume({ volumeId: 'v1', stagingTargetPath: staging }, signal);
    const publish = { volumeId: 'v1', stagingTargetPath: staging, targetPath: target, readonly: true };
    for (let again = 0; again < 3; again++) await node.publishVolume(publish, signal);
    expect(mountAt(target)).to.include({ fsType: 'ext4' });
    expect(mountAt(target)?.options).to.include('ro');
    expect((await refusal(driver.controller.deleteVolume('v1', signal))).message).to.include('unmount it first');
    for (let again = 0; again < 3; again++) {
      await node.unpublishVolume('v1', target, signal);
      await node.unstageVolume('v1', staging, signal);
      await driver.controller.deleteVolume('v1', signal);
    }
    expect(readdirSync(join(dir, 'volumes'))).to.deep.equal([]);
  });

  it('refuses what the pool has no room for, naming pool and disk, and takes it when there is room', async () => {
    await create('v1', 12, { poolSize: '20Mi' });
    const error = await refusal(create('v2', 12, { poolSize: '20Mi' }));
    expect(error.code).to.equal('RESOURCE_EXHAUSTED');
    expect(error.message).to.match(
      /no space for 12.0 MiB: the pool of node n1 has 8.00 MiB of 20.0 MiB left, the disk under /,
    );
    const grown = driver.controller.expandVolume(
      { volumeId: 'v1', capacityRange: { requiredBytes: 32 * mebibyte } },
      signal,
    );
    expect((await refusal(grown)).code).to.equal('RESOURCE_EXHAUSTED');
    await driver.controller.deleteVolume('v1', signal);
    expect((await create('v2', 12, { poolSize: '20Mi' })).volumeId).to.equal('v2');
  });

  it('promises no byte of the pool twice', async () => {
    const made = await Promise.allSettled(['v1', 'v2', 'v3'].map((name) => create(name, 8, { poolSize: '20Mi' })));
    expect(made.filter(({ status }) => status === 'fulfilled')).to.have.length(2);
  });

  it('refuses a name taken by a smaller volume, a parameter it does not know, and a block volume', async () => {
    await create('v1', 8);
    expect((await refusal(create('v1', 9))).code).to.equal('ALREADY_EXISTS');
    expect((await refusal(create('v2', 8, { poolsize: '1Gi' }))).message).to.include('did you mean "poolSize"?');
    expect((await refusal(create('v2', 8, { poolSize: 'big' }))).message).to.include('"big" is not a size');
    const block = { name: 'v2', volumeCapabilities: [{ block: {} }] };
    expect((await refusal(driver.controller.createVolume(block, signal))).code).to.equal('INVALID_ARGUMENT');
  });

  it('clears away what a kill left of volumes being made or deleted', async () => {
    await create('v1', 8);
    mkdirSync(join(dir, 'volumes', '.new-v2'));
    mkdirSync(join(dir, 'volumes', '.old-v3'));
    createLowerDriver(join(dir, 'volumes'), loopBackend);
    expect(readdirSync(join(dir, 'volumes'))).to.deep.equal(['v1']);
  });

  it('grows a volume that is not mounted when it is mounted next', async () => {
    const staging = join(dir, 'staging');
    mkdirSync(staging);
    await create('v1', 8);
    const capacityRange = { requiredBytes: 64 * mebibyte };
    await driver.controller.expandVolume({ volumeId: 'v1', capacityRange }, signal);
    const node = driver.node('n1');
    await node.stageVolume({ volumeId: 'v1', stagingTargetPath: staging }, signal);
    await node.expandVolume({ volumeId: 'v1' }, signal);
    const { blocks, bsize } = statfsSync(staging);
    expect(blocks * bsize).to.be.greaterThan(48 * mebibyte);
  });

  it('has directories too', async () => {
    driver = createLowerDriver(join(dir, 'directories'), directoryBackend);
    await create('v1', 8);
    await driver.node('n1').publishVolume({ volumeId: 'v1', targetPath: join(dir, 'target') }, signal);
    expect(mountAt(join(dir, 'target'))?.root).to.match(/directories\/v1\/data$/);
    await driver.node('n1').unpublishVolume('v1', join(dir, 'target'), signal);
    expect(existsSync(join(dir, 'target'))).to.equal(false);
    await driver.controller.deleteVolume('v1', signal);
  });
});
