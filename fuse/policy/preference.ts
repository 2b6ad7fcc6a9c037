/**
 * One pure function per preference: how much a branch is wanted among those that will do.
 *
 * The branch of the highest score is chosen. `random` gives numbers in [0, 1) and is the caller's, so that tests are
 * deterministic. Random choices are races: each branch draws a score and the highest wins, which needs one pass and
 * no list of candidates.
 */
import type { BranchFacts, Presence } from './facts.ts';

export type Preference = (branch: BranchFacts, random: () => number, presence: Presence) => number;

/** `ff`, first found: the order of the branches. */
export const firstFound: Preference = (branch) => -branch.index;

/** `mfs`, most free space. */
export const mostFreeSpace: Preference = (branch) => branch.availableBytes;

/** `lfs`, least free space: fills one branch after the other. */
export const leastFreeSpace: Preference = (branch) => -branch.availableBytes;

/** `lus`, least used space. */
export const leastUsedSpace: Preference = (branch) => -branch.usedBytes;

/** `lup`, least used percentage. */
export const leastUsedPercentage: Preference = (branch) => -branch.usedBytes / Math.max(branch.totalBytes, 1);

/** `newest`: the copy that was modified last. */
export const newest: Preference = (branch, _random, presence) => presence.modifiedAt(branch.index);

/** `rand`: every branch is as likely as any other. */
export const random: Preference = (_branch, random) => random();

/**
 * `pfrd`, percentage free, random distribution: likelihood in proportion to available bytes.
 * Of exponential variables with rates w, the one with rate w_i is the smallest with probability w_i / sum(w).
 */
export const randomByFreeSpace: Preference = (branch, random) =>
  Math.log(1 - random()) / Math.max(branch.availableBytes, 1);
