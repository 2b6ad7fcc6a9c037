/**
 * Choosing the branch of a new name: asks the create policy of its function, remembers the branches that answered ENOSPC, and makes the parent
 * directory there. Reused for every create of a thread.
 */
import { F, ROOT } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { type CreatePolicy, createPolicies, type PolicyName } from '../policy/create.ts';
import type { BranchSet, Presence } from '../policy/facts.ts';
import type { Policies } from '../policy/functions.ts';
import { EDQUOT, EEXIST, EIO, ENOSPC, ENOTDIR, EROFS } from '../sys/constants.ts';
import { type Context, hasBranch } from './context.ts';
import { makeDirectoryOn } from './parents.ts';
import { modifiedAt } from './scratch.ts';

/** `move`: a file that is there already goes to another branch; `anywhere`: it must, whatever is said of new files. */
export type CreateFunction = 'create' | 'mkdir' | 'mknod' | 'symlink' | 'move' | 'anywhere';

export class Choice {
  readonly #context: Context;
  readonly #policies: Readonly<Record<CreateFunction, CreatePolicy>>;
  #policy: CreatePolicy;
  #parent = 0;
  #triedLow = 0;
  #triedHigh = 0;
  #freshenedLow = 0;
  #freshenedHigh = 0;
  #error = 0;
  /** Where a dead server was making it, or -1. */
  #begun = -1;
  readonly #tried: BranchSet;
  readonly #presence: Presence;

  constructor(context: Context, { create, mkdir, mknod, symlink }: Policies, move: PolicyName) {
    this.#context = context;
    this.#policies = {
      create: createPolicies[create],
      mkdir: createPolicies[mkdir],
      mknod: createPolicies[mknod],
      symlink: createPolicies[symlink],
      move: createPolicies[move],
      anywhere: createPolicies.mfs,
    };
    this.#policy = this.#policies.create;
    this.#tried = { has: (branch) => this.#isTried(branch) || context.gate.isAvoided(branch) };
    const choice = this;
    this.#presence = {
      get levels() {
        return choice.#depth();
      },
      has: (level, branch) => choice.#ancestorOn(level, branch),
      modifiedAt: (branch) => modifiedAt(context, choice.#parent, branch),
    };
  }

  begin(parent: number, name: CreateFunction): void {
    this.#parent = parent;
    this.#policy = this.#policies[name];
    this.#triedLow = this.#triedHigh = this.#freshenedLow = this.#freshenedHigh = this.#error = 0;
    this.#begun = this.#context.journal.resuming ? this.#context.journal.branch : -1;
  }

  /**
   * The next branch to try; the parent exists on it when this returns. A negated errno when there is none left: the last
   * real error, or the policy's reason.
   */
  next(): number {
    const context = this.#context;
    for (;;) {
      const isBegun = this.#begun >= 0 && !this.#tried.has(this.#begun);
      const branch = isBegun
        ? this.#begun
        : this.#policy(context.space.facts(), this.#presence, this.#tried, Math.random);
      if (branch < 0) return this.#error !== 0 ? this.#error : this.#refusal(branch);
      if (!isBegun && this.#isNews(branch)) continue;
      if (context.inodes.onBranch(this.#parent, branch)) return branch;
      const result = makeDirectoryOn(context, this.#parent, branch);
      if (result >= 0) return branch;
      if (!this.failed(branch, result)) return result;
    }
  }

  /** Whether what is on `branch` already may be there because a dead server made it for this very request. */
  wasMade(branch: number, error: number): boolean {
    return error === -EEXIST && branch === this.#begun;
  }

  /** Whether `error` says only that this branch will not do, so that the next may be tried. */
  failed(branch: number, error: number): boolean {
    this.leaveOut(branch);
    // ENOTDIR: a hidden file stands where the parent would have to be made.
    if (error !== -ENOSPC && error !== -EDQUOT && error !== -EROFS && error !== -ENOTDIR) return false;
    if (this.#error === 0 || error === -ENOSPC || error === -EDQUOT) this.#error = error;
    return true;
  }

  /** The branch is not answered again. */
  leaveOut(branch: number): void {
    if (branch < 32) this.#triedLow |= 1 << branch;
    else this.#triedHigh |= 1 << (branch - 32);
  }

  /** Whether a branch's figures are others than those it was chosen by; once for each choice, however fast they age. */
  #isNews(branch: number): boolean {
    if (hasBranch(this.#freshenedLow, this.#freshenedHigh, branch)) return false;
    if (branch < 32) this.#freshenedLow |= 1 << branch;
    else this.#freshenedHigh |= 1 << (branch - 32);
    return this.#context.space.freshen(branch);
  }

  #isTried(branch: number): boolean {
    return hasBranch(this.#triedLow, this.#triedHigh, branch);
  }

  /** The policy takes a branch that is avoided for a full one; when there are no others, the reason is what is wrong with it. */
  #refusal(reason: number): number {
    const { gate, branchTable } = this.#context;
    const writable = branchTable.list().filter(({ mode }) => mode === 'RW');
    if (reason !== -ENOSPC || !writable.every(({ index }) => gate.isAvoided(index))) return reason;
    return writable.every(({ index }) => gate.isReadOnly(index)) ? -EROFS : -EIO;
  }

  /** Levels from the parent up to the root, both counted. */
  #depth(): number {
    const { inodes, names } = this.#context;
    let levels = 1;
    for (let slot = this.#parent; slot !== ROOT && slot !== 0; slot = names.get(inodes.get(slot, F.dentry), D.parent))
      levels++;
    return levels;
  }

  #ancestorOn(level: number, branch: number): boolean {
    const { inodes, names } = this.#context;
    let slot = this.#parent;
    for (let up = 0; up < level && slot !== ROOT; up++) slot = names.get(inodes.get(slot, F.dentry), D.parent);
    return inodes.onBranch(slot, branch);
  }
}
