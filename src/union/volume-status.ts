/** The parts of a UnionVolume's status that every plan writes in the same way, and the actions that write it. */
import { isDeepStrictEqual } from 'node:util';
import type { Condition, UnionVolume, UnionVolumeStatus } from '../protocol/resources.ts';
import { BRANCHES_AVAILABLE } from './branches-available.ts';
import { type ConditionFacts, condition, eventOf, findCondition } from './conditions.ts';
import type { ObservedVolume, VolumeAction } from './plan-volume.ts';

/** What a union may have trouble with, the worst first: a condition that is false tells of it. */
export const UNION_CONDITIONS: readonly string[] = ['Ready', BRANCHES_AVAILABLE, 'Resized'];

export function conditionsOf({ volume, now }: ObservedVolume, facts: readonly ConditionFacts[]): readonly Condition[] {
  const before = volume.status?.conditions ?? [];
  return facts.map((each) => condition(each, { before, now, generation: volume.metadata.generation }));
}

export function generationOf({ metadata }: UnionVolume): Pick<UnionVolumeStatus, 'observedGeneration'> {
  return metadata.generation === undefined ? {} : { observedGeneration: metadata.generation };
}

/** The status, if it is another, after the events that tell of it: told twice rather than not at all. */
export function statusActions({ volume }: ObservedVolume, status: UnionVolumeStatus): readonly VolumeAction[] {
  if (isDeepStrictEqual(volume.status, status)) return [];
  // Growing is news only of a union that is otherwise whole.
  const whole = volume.status?.phase === 'Ready' && status.phase === 'Ready';
  const types = whole ? UNION_CONDITIONS : ['Ready'];
  const events = types.flatMap((type) => {
    const event = eventOf(findCondition(volume.status?.conditions, type), findCondition(status.conditions, type));
    return event ? [{ kind: 'event' as const, event }] : [];
  });
  return [...events, { kind: 'update-status', status }];
}
