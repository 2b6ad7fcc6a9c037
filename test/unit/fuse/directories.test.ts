/** Which directory a thread gets when it opens one while others give it another place, or try to remove it. */
import { once } from 'node:events';
import { fstatSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { ROOT } from '../../../fuse/inode/inode-table.ts';
import { keepOpen, unpin } from '../../../fuse/ops/nameless.ts';
import { makeDirectoryOn } from '../../../fuse/ops/parents.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

/** Exchanges two directories as `rename` does, and takes its time between the branch and the index. */
const exchange = `
  import { renameSync } from 'node:fs';
  import { parentPort, workerData } from 'node:worker_threads';
  const at = (path) => import(new URL(path, workerData.fuse).href);
  const { State } = await at('inode/state.ts');
  const { F, InodeTable } = await at('inode/inode-table.ts');
  const { NameIndex } = await at('inode/name-index.ts');
  const { fd, one, two, paths } = workerData;
  const state = State.attach(fd, 1);
  const inodes = new InodeTable(state);
  const names = new NameIndex(state, inodes);
  state.changes.begin(one, two);
  renameSync(paths[0], paths[0] + '-');
  renameSync(paths[1], paths[0]);
  renameSync(paths[0] + '-', paths[1]);
  parentPort.postMessage('renamed');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  state.lock();
  const [first, second] = [inodes.get(one, F.dentry), inodes.get(two, F.dentry)];
  names.detach(first);
  names.detach(second);
  names.attach(first, two);
  names.attach(second, one);
  state.unlock();
  state.changes.end();`;

describe('descriptors of directories', () => {
  let driver: FuseDriver;

  afterEach(() => driver.close());

  /** What the thread opens anew, by inode number. */
  const opened = (slot: number, branch: number) => {
    const { directories, state } = driver.context;
    state.dropDescriptors();
    directories.begin(false);
    return fstatSync(directories.descriptor(slot, branch)).ino;
  };

  it('are never of a directory that is just being put in the place of the one asked for', async () => {
    driver = new FuseDriver(1);
    const [one, two] = ['one', 'two'].map((name) => driver.mkdir(ROOT, name));
    const paths = ['one', 'two'].map((name) => join(driver.paths[0]!, name));
    const numbers = paths.map((path) => statSync(path).ino);
    const fuse = new URL('../../../fuse/', import.meta.url).href;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(exchange)}`), {
      workerData: { fuse, fd: driver.context.state.fd, one, two, paths },
    });
    const ended = once(worker, 'exit');
    await once(worker, 'message');
    expect([opened(one!, 0), opened(two!, 0)]).to.deep.equal(numbers);
    await ended;
    expect([opened(one!, 0), opened(two!, 0)]).to.deep.equal(numbers);
  });

  it('are of the branch asked for, also while somebody tries to remove the directory', () => {
    driver = new FuseDriver(2);
    const slot = driver.mkdir(ROOT, 'one');
    makeDirectoryOn(driver.context, slot, 1);
    expect(keepOpen(driver.context, slot)).to.equal(0);
    const numbers = driver.paths.map((path) => statSync(join(path, 'one')).ino);
    expect([opened(slot, 0), opened(slot, 1)]).to.deep.equal(numbers);
    unpin(driver.context, slot);
  });
});
