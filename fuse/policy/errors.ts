/**
 * Why a branch takes no new name, and which reason is told when there are several.
 *
 * ENOSPC before EROFS before ENOENT: what a person can act on comes first. Results of policies are negative errno
 * values, as in replies to the kernel, so that a branch index (0 or more) and a refusal share one number.
 */

export const NO_SUCH_PATH = -2;
export const NO_SPACE = -28;
export const READ_ONLY = -30;

/** The one of two refusals that is reported. */
export function worseRefusal(left: number, right: number): number {
  return rank(left) >= rank(right) ? left : right;
}

function rank(refusal: number): number {
  if (refusal === NO_SPACE) return 2;
  return refusal === READ_ONLY ? 1 : 0;
}
