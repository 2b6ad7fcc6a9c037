/**
 * Create policies: on which branch a new name is made. Names and meaning are mergerfs's (its documentation, "Policies").
 *
 * A policy is a preference among branches and a rule about the path. Every branch passes the same filters, in
 * this order: its mode, its having the path, its filesystem being writable, its reserve. A branch refused by all leaves the
 * most telling refusal (errors.ts). Ties are broken by the caller's generator.
 *
 * Left out: `all` and `epall` would make copies of a file, and a union has one copy of each; `newest` asks for times
 * that the hot path does not keep.
 */
import { NO_SPACE, NO_SUCH_PATH, READ_ONLY, worseRefusal } from './errors.ts';
import type { BranchFacts, BranchSet, ParentPresence } from './facts.ts';
import * as prefer from './preference.ts';

/**
 * Returns the index of the branch to create on, or a negative errno: ENOSPC, EROFS or ENOENT.
 *
 * `tried` holds branches that already answered ENOSPC or EDQUOT for this very name; they count as full, so calling again
 * with the last answer added walks through all candidates and ends in ENOSPC.
 */
export type CreatePolicy = (
  facts: readonly BranchFacts[],
  presence: ParentPresence,
  tried: BranchSet,
  random: () => number,
) => number;

/** For the first call: nothing was tried yet. */
export const noBranches: BranchSet = { has: () => false };

/** Every create policy by its name. */
export const createPolicies = {
  ff: anywhere(prefer.firstFound),
  lfs: anywhere(prefer.leastFreeSpace),
  lup: anywhere(prefer.leastUsedPercentage),
  lus: anywhere(prefer.leastUsedSpace),
  mfs: anywhere(prefer.mostFreeSpace),
  pfrd: anywhere(prefer.randomByFreeSpace),
  rand: anywhere(prefer.random),
  epff: whereParentExists(prefer.firstFound),
  eplfs: whereParentExists(prefer.leastFreeSpace),
  eplup: whereParentExists(prefer.leastUsedPercentage),
  eplus: whereParentExists(prefer.leastUsedSpace),
  epmfs: whereParentExists(prefer.mostFreeSpace),
  eppfrd: whereParentExists(prefer.randomByFreeSpace),
  eprand: whereParentExists(prefer.random),
  msplfs: mostSharedPath(prefer.leastFreeSpace),
  msplup: mostSharedPath(prefer.leastUsedPercentage),
  msplus: mostSharedPath(prefer.leastUsedSpace),
  mspmfs: mostSharedPath(prefer.mostFreeSpace),
  msppfrd: mostSharedPath(prefer.randomByFreeSpace),
  erofs: () => READ_ONLY,
} as const satisfies Record<string, CreatePolicy>;

export type CreatePolicyName = keyof typeof createPolicies;

/** Every name, for messages about an unknown one. */
export const createPolicyNames = Object.keys(createPolicies) as readonly CreatePolicyName[];

export function isCreatePolicyName(name: string): name is CreatePolicyName {
  return Object.hasOwn(createPolicies, name);
}

/** A level of no path: every branch has it. */
const ANY_PATH = -1;

function anywhere(preference: prefer.Preference): CreatePolicy {
  return (facts, presence, tried, random) => choose(preference, ANY_PATH, facts, presence, tried, random);
}

function whereParentExists(preference: prefer.Preference): CreatePolicy {
  return (facts, presence, tried, random) => choose(preference, 0, facts, presence, tried, random);
}

/** Where the parent exists; if none of those will do, where the parent's parent exists, and so on up to the root. */
function mostSharedPath(preference: prefer.Preference): CreatePolicy {
  return (facts, presence, tried, random) => {
    let refusal: number = NO_SUCH_PATH;
    for (let level = 0; level < presence.levels; level++) {
      const result = choose(preference, level, facts, presence, tried, random);
      if (result >= 0) return result;
      refusal = worseRefusal(refusal, result);
    }
    return refusal;
  };
}

function choose(
  preference: prefer.Preference,
  level: number,
  facts: readonly BranchFacts[],
  presence: ParentPresence,
  tried: BranchSet,
  random: () => number,
): number {
  let refusal: number = NO_SUCH_PATH;
  let best = -1;
  let bestScore = 0;
  let equals = 0;
  for (let index = 0; index < facts.length; index++) {
    const branch = facts[index]!;
    const refused = refuse(branch, level, presence, tried);
    if (refused !== 0) {
      refusal = worseRefusal(refusal, refused);
      continue;
    }
    const score = preference(branch, random);
    if (best < 0 || score > bestScore) {
      best = index;
      bestScore = score;
      equals = 1;
    } else if (score === bestScore && random() * ++equals < 1) {
      best = index; // the n-th of n equals replaces the others with probability 1/n
    }
  }
  return best >= 0 ? best : refusal;
}

function refuse(branch: BranchFacts, level: number, presence: ParentPresence, tried: BranchSet): number {
  if (branch.mode !== 'RW') return READ_ONLY;
  if (level !== ANY_PATH && !presence.has(level, branch.index)) return NO_SUCH_PATH;
  if (branch.readOnlyFilesystem) return READ_ONLY;
  if (branch.availableBytes < branch.minFreeSpaceBytes || tried.has(branch.index)) return NO_SPACE;
  return 0;
}
