/**
 * Which copy of a directory speaks for all of them where only one can: for owner and mode (`getattr`), for extended attributes
 * (`getxattr`, `listxattr`). The copies of a directory are changed together, so it matters where they differed before. The
 * search policies of these functions decide; unless they say otherwise it is the first in the order of the branches.
 */
import { F } from '../inode/inode-table.ts';
import type { Presence } from '../policy/facts.ts';
import type { Policies } from '../policy/functions.ts';
import { isFirstFound, type SearchPolicy, searchPolicy } from '../policy/search.ts';
import { DT_DIR } from '../sys/constants.ts';
import { type Context, firstBranch, nextBranch } from './context.ts';
import { modifiedAt } from './scratch.ts';

export type Question = 'getattr' | 'getxattr' | 'listxattr';

export class ShownCopy {
  readonly #context: Context;
  /** Undefined where the first copy speaks. */
  readonly #policies: Readonly<Record<Question, SearchPolicy | undefined>>;
  readonly #copies: Presence;
  #slot = 0;

  constructor(context: Context, policies: Policies) {
    this.#context = context;
    const of = (question: Question) =>
      isFirstFound(policies[question]) ? undefined : searchPolicy(policies[question]);
    this.#policies = { getattr: of('getattr'), getxattr: of('getxattr'), listxattr: of('listxattr') };
    this.#copies = {
      levels: 1,
      has: (_level, branch) => context.inodes.onBranch(this.#slot, branch) && context.gate.isOpen(branch),
      modifiedAt: (branch) => modifiedAt(context, this.#slot, branch),
    };
  }

  /** The branch of that copy; of a file its only one. */
  branch(slot: number, question: Question): number {
    const policy = this.#policies[question];
    const first = this.#context.branchOf(slot);
    if (policy === undefined || !this.#hasCopies(slot)) return first;
    this.#slot = slot;
    const chosen = policy(this.#context.space.facts(), this.#copies, Math.random);
    return chosen < 0 ? first : chosen;
  }

  #hasCopies(slot: number): boolean {
    const { inodes } = this.#context;
    if (inodes.kind(slot) !== DT_DIR || inodes.get(slot, F.pinned) !== 0) return false;
    const low = inodes.get(slot, F.maskLow);
    const high = inodes.get(slot, F.maskHigh);
    return nextBranch(low, high, firstBranch(low, high) + 1) >= 0;
  }
}
