/** The one pass over the branches that all policies make: filter, score, and of equals one by the caller's generator. */
import { NO_SUCH_PATH, worseRefusal } from './errors.ts';
import type { BranchFacts, BranchSet, Presence } from './facts.ts';
import type { Preference } from './preference.ts';

/** 0, or why a branch will not do: a negative errno. */
export type Filter = (branch: BranchFacts, level: number, presence: Presence, tried: BranchSet) => number;

/** For those who did not try any branch yet. */
export const noBranches: BranchSet = { has: () => false };

/**
 * The index of the branch of the highest score among those that the filter lets through; when there is none, the refusal that
 * tells most (errors.ts).
 */
export function choose(
  filter: Filter,
  preference: Preference,
  level: number,
  facts: readonly BranchFacts[],
  presence: Presence,
  tried: BranchSet,
  random: () => number,
): number {
  let refusal: number = NO_SUCH_PATH;
  let best = -1;
  let bestScore = 0;
  let equals = 0;
  for (const branch of facts) {
    const refused = filter(branch, level, presence, tried);
    if (refused !== 0) {
      refusal = worseRefusal(refusal, refused);
      continue;
    }
    const score = preference(branch, random, presence);
    if (best < 0 || score > bestScore) {
      best = branch.index;
      bestScore = score;
      equals = 1;
    } else if (score === bestScore && random() * ++equals < 1) {
      best = branch.index; // the n-th of n equals replaces the others with probability 1/n
    }
  }
  return best >= 0 ? best : refusal;
}
