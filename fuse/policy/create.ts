/**
 * Create policies: on which branch a new name is made. Names and meaning are mergerfs's (its documentation, "Policies").
 *
 * A policy is a preference among branches and a rule about the path. Every branch passes the same filters, in
 * this order: its mode, its having the path, its filesystem being writable, its reserve. A branch refused by all leaves the
 * most telling refusal (errors.ts). Ties are broken by the caller's generator.
 *
 * `all` and `epall` go through the branches in order: a directory is made on each of them (`isForEvery`), anything else, of which
 * a union has one copy, on the first.
 */
import { choose, type Filter } from './choose.ts';
import { NO_SPACE, NO_SUCH_PATH, READ_ONLY, worseRefusal } from './errors.ts';
import type { BranchFacts, BranchSet, Presence } from './facts.ts';
import * as prefer from './preference.ts';

/**
 * Returns the index of the branch to create on, or a negative errno: ENOSPC, EROFS or ENOENT.
 *
 * `tried` holds branches that already answered ENOSPC or EDQUOT for this very name; they count as full, so calling again
 * with the last answer added walks through all candidates and ends in ENOSPC.
 */
export type CreatePolicy = (
  facts: readonly BranchFacts[],
  presence: Presence,
  tried: BranchSet,
  random: () => number,
) => number;

/** Every create policy by its name. */
export const createPolicies = {
  all: anywhere(prefer.firstFound),
  ff: anywhere(prefer.firstFound),
  lfs: anywhere(prefer.leastFreeSpace),
  lup: anywhere(prefer.leastUsedPercentage),
  lus: anywhere(prefer.leastUsedSpace),
  mfs: anywhere(prefer.mostFreeSpace),
  pfrd: anywhere(prefer.randomByFreeSpace),
  rand: anywhere(prefer.random),
  newest: whereParentExists(prefer.newest),
  epall: whereParentExists(prefer.firstFound),
  epff: whereParentExists(prefer.firstFound),
  eplfs: whereParentExists(prefer.leastFreeSpace),
  eplus: whereParentExists(prefer.leastUsedSpace),
  epmfs: whereParentExists(prefer.mostFreeSpace),
  eppfrd: whereParentExists(prefer.randomByFreeSpace),
  eprand: whereParentExists(prefer.random),
  msplfs: mostSharedPath(prefer.leastFreeSpace),
  msplus: mostSharedPath(prefer.leastUsedSpace),
  mspmfs: mostSharedPath(prefer.mostFreeSpace),
  msppfrd: mostSharedPath(prefer.randomByFreeSpace),
  erofs: () => READ_ONLY,
} as const satisfies Record<string, CreatePolicy>;

export type PolicyName = keyof typeof createPolicies;

/** Every name: the same for all categories, as in mergerfs. */
export const policyNames = Object.keys(createPolicies) as readonly PolicyName[];

export function isPolicyName(name: string): name is PolicyName {
  return Object.hasOwn(createPolicies, name);
}

/** Whether a directory is made on every branch that the policy would answer, one after the other. */
export function isForEvery(name: PolicyName): boolean {
  return name === 'all' || name === 'epall';
}

/** A level of no path: every branch has it. */
const ANY_PATH = -1;

function anywhere(preference: prefer.Preference): CreatePolicy {
  return (facts, presence, tried, random) => choose(refuse, preference, ANY_PATH, facts, presence, tried, random);
}

function whereParentExists(preference: prefer.Preference): CreatePolicy {
  return (facts, presence, tried, random) => choose(refuse, preference, 0, facts, presence, tried, random);
}

/** Where the parent exists; if none of those will do, where the parent's parent exists, and so on up to the root. */
function mostSharedPath(preference: prefer.Preference): CreatePolicy {
  return (facts, presence, tried, random) => {
    let refusal: number = NO_SUCH_PATH;
    for (let level = 0; level < presence.levels; level++) {
      const result = choose(refuse, preference, level, facts, presence, tried, random);
      if (result >= 0) return result;
      refusal = worseRefusal(refusal, result);
    }
    return refusal;
  };
}

const refuse: Filter = (branch, level, presence, tried) => {
  if (branch.mode !== 'RW') return READ_ONLY;
  if (level !== ANY_PATH && !presence.has(level, branch.index)) return NO_SUCH_PATH;
  if (branch.readOnlyFilesystem) return READ_ONLY;
  if (branch.availableBytes < branch.minFreeSpaceBytes || tried.has(branch.index)) return NO_SPACE;
  return 0;
};
