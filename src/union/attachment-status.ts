/** What is written about an attachment, and told when it changes. Part of planUnionAttachment. */
import { isDeepStrictEqual } from 'node:util';
import { assertNever } from '../base/assert.ts';
import type { Pod } from '../protocol/objects.ts';
import type { UnionAttachmentStatus } from '../protocol/resources.ts';
import { type ConditionFacts, condition, eventOf, findCondition } from './conditions.ts';
import type { AttachmentAction, ObservedAttachment } from './plan-attachment.ts';
import { feedersOf, podRef } from './plan-feeders.ts';

/** Reasons of the condition Ready. */
export type AttachmentReason =
  | 'Ready'
  | 'Starting'
  | 'ServerDied'
  | 'ServerFails'
  | 'Detaching'
  | 'VolumeNotReady'
  /** It will not be, before somebody puts it right. */
  | 'VolumeFailed'
  | 'VolumeGone'
  | 'AttachedElsewhere'
  | 'BranchRefused';

export interface Standing {
  readonly reason: AttachmentReason;
  readonly message: string;
  readonly pod?: Pod;
}

export function statusActions(
  observed: ObservedAttachment,
  { reason, message, pod }: Standing,
): readonly AttachmentAction[] {
  const { attachment, now } = observed;
  const feeders = feedersOf(observed);
  const { generation } = attachment.metadata;
  const before = attachment.status?.conditions ?? [];
  const facts: ConditionFacts = { type: 'Ready', status: reason === 'Ready' ? 'True' : 'False', reason, message };
  const ready = condition(facts, { before, now, generation });
  const status: UnionAttachmentStatus = {
    phase: phaseOf(reason, pod),
    ...(pod ? { pod: podRef(pod), restarts: restartsOf(pod) } : {}),
    ...(attachment.status?.mount ? { mount: attachment.status.mount } : {}),
    ...(feeders.length > 0 ? { feeders } : {}),
    conditions: [ready],
    ...(generation === undefined ? {} : { observedGeneration: generation }),
  };
  if (isDeepStrictEqual(attachment.status, status)) return [];
  const event = eventOf(findCondition(before, 'Ready'), ready);
  return [...(event ? [{ kind: 'event' as const, event }] : []), { kind: 'update-status', status }];
}

function restartsOf({ status }: Pod): number {
  return status?.containerStatuses?.reduce((sum, { restartCount }) => sum + restartCount, 0) ?? 0;
}

function phaseOf(reason: AttachmentReason, pod: Pod | undefined): NonNullable<UnionAttachmentStatus['phase']> {
  switch (reason) {
    case 'Ready':
    case 'ServerDied':
    case 'ServerFails':
      return 'Running';
    case 'Starting':
      return pod?.spec?.nodeName && !pod.metadata.deletionTimestamp ? 'Scheduled' : 'Pending';
    case 'Detaching':
      return 'Detaching';
    case 'VolumeNotReady':
      return 'Pending';
    case 'VolumeFailed':
    case 'VolumeGone':
    case 'AttachedElsewhere':
    case 'BranchRefused':
      return 'Failed';
    default:
      return assertNever(reason);
  }
}
