/**
 * When a union that waits for others is looked at again, for words of its driver, which are not watched: after half the time that it has
 * waited, so that many that wait long cost little. Pure.
 */
import type { Condition } from '../protocol/resources.ts';
import { BRANCHES_AVAILABLE } from './branches-available.ts';

const LEAST_MS = 2_000;
const MOST_MS = 30_000;

/** Undefined: it waits for nothing that we are not told of, as we are of branches that fail. `now` is RFC 3339. */
export function nextLookMs(conditions: readonly Condition[], now: string): number | undefined {
  const waits = conditions.filter(({ type, status }) => type !== BRANCHES_AVAILABLE && status !== 'True');
  if (waits.length === 0) return undefined;
  const since = Math.max(...waits.map(({ lastTransitionTime }) => Date.parse(lastTransitionTime)));
  return Math.min(Math.max((Date.parse(now) - since) / 2, LEAST_MS), MOST_MS);
}
