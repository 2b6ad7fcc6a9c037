/**
 * Watches over the order of locks (fuse/inode/state.ts): who takes one that is not behind all that it holds throws. Two threads that
 * take them in different orders would wait for each other only now and then; this tells at once, with one thread.
 */
import type { State } from '../../fuse/inode/state.ts';

const RANKS = { files: 0, tree: 1, inode: 2, table: 3 } as const;
type Rank = keyof typeof RANKS;

/** From now on, for this thread's view of the memory. */
export function checkLockOrder(state: State): State {
  const held: Rank[] = [];
  const take = (rank: Rank, call: () => void) => {
    const last = held.findLast((one) => RANKS[one] >= RANKS[rank]);
    if (last !== undefined) throw new Error(`the lock of ${rank} is taken by who holds that of ${last}`);
    call();
    held.push(rank);
  };
  const give = (rank: Rank, call: () => void) => {
    const at = held.lastIndexOf(rank);
    if (at < 0) throw new Error(`the lock of ${rank} is given up by who does not hold it`);
    held.splice(at, 1);
    call();
  };
  const own = {
    lock: state.lock.bind(state),
    unlock: state.unlock.bind(state),
    lockFiles: state.lockFiles.bind(state),
    unlockFiles: state.unlockFiles.bind(state),
    lockFile: state.lockFile.bind(state),
    unlockFile: state.unlockFile.bind(state),
    lockTree: state.lockTree.bind(state),
    lockTreeAnyhow: state.lockTreeAnyhow.bind(state),
    unlockTree: state.unlockTree.bind(state),
    lockInode: state.lockInode.bind(state),
    lockInodeAnyhow: state.lockInodeAnyhow.bind(state),
    lockInodeSoon: state.lockInodeSoon.bind(state),
    tryLockInode: state.tryLockInode.bind(state),
    unlockInode: state.unlockInode.bind(state),
    releaseOwnLocks: state.releaseOwnLocks.bind(state),
  };
  return Object.assign(state, {
    lock: () => take('table', own.lock),
    unlock: () => give('table', own.unlock),
    lockFiles: (slot: number, other = 0) => take('files', () => own.lockFiles(slot, other)),
    unlockFiles: (slot: number, other = 0) => give('files', () => own.unlockFiles(slot, other)),
    lockFile: (slot: number) => take('files', () => own.lockFile(slot)),
    unlockFile: (slot: number) => give('files', () => own.unlockFile(slot)),
    lockTree: () => take('tree', own.lockTree),
    lockTreeAnyhow: () => take('tree', own.lockTreeAnyhow),
    unlockTree: () => give('tree', own.unlockTree),
    lockInode: (slot: number) => take('inode', () => own.lockInode(slot)),
    lockInodeAnyhow: (slot: number) => take('inode', () => own.lockInodeAnyhow(slot)),
    lockInodeSoon: (slot: number) => {
      let isTaken = false;
      take('inode', () => {
        isTaken = own.lockInodeSoon(slot);
      });
      if (!isTaken) held.pop();
      return isTaken;
    },
    // It does not wait: any order will do.
    tryLockInode: (slot: number) => {
      const isTaken = own.tryLockInode(slot);
      if (isTaken) held.push('inode');
      return isTaken;
    },
    unlockInode: (slot: number) => give('inode', () => own.unlockInode(slot)),
    releaseOwnLocks: () => {
      held.length = 0;
      own.releaseOwnLocks();
    },
  });
}
