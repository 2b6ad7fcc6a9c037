/** Conditions as Kubernetes keeps them: one per type, whose transition time moves only when its status does. */
import type { Condition } from '../protocol/resources.ts';

export type ConditionFacts = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>;

export interface ConditionContext {
  readonly before: readonly Condition[];
  /** RFC 3339. */
  readonly now: string;
  readonly generation: number | undefined;
}

export function condition(facts: ConditionFacts, { before, now, generation }: ConditionContext): Condition {
  const previous = before.find(({ type }) => type === facts.type);
  return {
    ...facts,
    lastTransitionTime: previous?.status === facts.status ? previous.lastTransitionTime : now,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
  };
}

export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((candidate) => candidate.type === type);
}

/** What people are told when a condition changes: troubles whenever they change, all else when it begins. */
export interface PlannedEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

/** Reasons that are no trouble. */
const NORMAL: readonly string[] = [
  'Ready',
  'Provisioning',
  'Deleting',
  'Resized',
  'Growing',
  'Starting',
  'Detaching',
  'BranchesAvailable',
];

/** Of many things to say only the first ones. */
export function firstOf(texts: readonly string[]): string {
  const told = texts.slice(0, 3);
  const more = texts.length - told.length;
  return [...told, ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

export function eventOf(before: Condition | undefined, after: Condition | undefined): PlannedEvent | undefined {
  if (!after) return undefined;
  const { reason, message } = after;
  const type = NORMAL.includes(reason) ? 'Normal' : 'Warning';
  const same = before?.reason === reason && (type === 'Normal' || before.message === message);
  return same ? undefined : { type, reason, message };
}
