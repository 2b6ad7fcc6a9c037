/**
 * Search policies: which of the copies of something. Names and meaning are mergerfs's (its documentation, "Policies"). Search
 * asks only whether a branch has a copy. As every copy lies where its path exists, `ep…` and `msp…` say what the plain names
 * say, and `all`, where only one is asked for, says `ff`.
 *
 * In a union only directories have several copies, and what changes them changes all: so action policies choose nothing, but for
 * `erofs`, which refuses (functions.ts).
 */
import { choose, type Filter, noBranches } from './choose.ts';
import type { PolicyName } from './create.ts';
import { NO_SUCH_PATH, READ_ONLY } from './errors.ts';
import type { BranchFacts, Presence } from './facts.ts';
import * as prefer from './preference.ts';

/** The index of the branch whose copy it is, or a negative errno: EROFS or ENOENT. `copies` has one level. */
export type SearchPolicy = (facts: readonly BranchFacts[], copies: Presence, random: () => number) => number;

const preferences: Readonly<Record<Exclude<PolicyName, 'erofs'>, prefer.Preference>> = {
  all: prefer.firstFound,
  epall: prefer.firstFound,
  ff: prefer.firstFound,
  epff: prefer.firstFound,
  lfs: prefer.leastFreeSpace,
  eplfs: prefer.leastFreeSpace,
  msplfs: prefer.leastFreeSpace,
  lup: prefer.leastUsedPercentage,
  lus: prefer.leastUsedSpace,
  eplus: prefer.leastUsedSpace,
  msplus: prefer.leastUsedSpace,
  mfs: prefer.mostFreeSpace,
  epmfs: prefer.mostFreeSpace,
  mspmfs: prefer.mostFreeSpace,
  pfrd: prefer.randomByFreeSpace,
  eppfrd: prefer.randomByFreeSpace,
  msppfrd: prefer.randomByFreeSpace,
  rand: prefer.random,
  eprand: prefer.random,
  newest: prefer.newest,
};

export function searchPolicy(name: PolicyName): SearchPolicy {
  if (name === 'erofs') return () => READ_ONLY;
  const preference = preferences[name];
  return (facts, copies, random) => choose(exists, preference, 0, facts, copies, noBranches, random);
}

/** Whether the policy's answer is the first copy in the order of the branches, without a look at anything else. */
export function isFirstFound(name: PolicyName): boolean {
  return name !== 'erofs' && preferences[name] === prefer.firstFound;
}

const exists: Filter = (branch, level, copies) => (copies.has(level, branch.index) ? 0 : NO_SUCH_PATH);
