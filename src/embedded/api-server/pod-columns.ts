/** Columns of pods: what a pod's status amounts to, in one word. Source: printPod of the real server. Pure. */
import type { Column } from './columns.ts';
import { humanDuration } from './human-duration.ts';
import { arrayAt, at, isObject, type StoredObject, textAt } from './objects.ts';

export function podColumns(name: Column, age: Column): readonly Column[] {
  const column = (title: string, cell: Column['cell'], priority = 0): Column => ({
    name: title,
    type: 'string',
    priority,
    cell,
  });
  return [
    name,
    column('Ready', (pod) => `${readyCount(pod)}/${arrayAt(pod, 'spec', 'containers').length}`),
    column('Status', podStatus),
    column('Restarts', restarts),
    age,
    column('IP', (pod) => textAt(pod, 'status', 'podIP') || '<none>', 1),
    column('Node', (pod) => textAt(pod, 'spec', 'nodeName') || '<none>', 1),
    column('Nominated Node', (pod) => textAt(pod, 'status', 'nominatedNodeName') || '<none>', 1),
    column('Readiness Gates', () => '<none>', 1),
  ];
}

function statuses(pod: StoredObject): readonly unknown[] {
  return arrayAt(pod, 'status', 'containerStatuses');
}

function isRunning(container: unknown): boolean {
  return at(container, 'ready') === true && isObject(at(container, 'state', 'running'));
}

function readyCount(pod: StoredObject): number {
  return statuses(pod).filter(isRunning).length;
}

export function podStatus(pod: StoredObject): string {
  const phase = textAt(pod, 'status', 'phase') ?? 'Unknown';
  let reason = textAt(pod, 'status', 'reason') || phase;
  for (const container of statuses(pod).toReversed()) reason = containerReason(container) ?? reason;
  if (reason === 'Completed' && readyCount(pod) > 0) reason = isReady(pod) ? 'Running' : 'NotReady';
  const ended = phase === 'Succeeded' || phase === 'Failed';
  return pod.metadata.deletionTimestamp !== undefined && !ended ? 'Terminating' : reason;
}

function containerReason(container: unknown): string | undefined {
  const waiting = textAt(container, 'state', 'waiting', 'reason');
  if (waiting) return waiting;
  const terminated = at(container, 'state', 'terminated');
  if (!isObject(terminated)) return undefined;
  if (terminated.reason) return String(terminated.reason);
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode ?? 0}`;
}

function isReady(pod: StoredObject): boolean {
  return arrayAt(pod, 'status', 'conditions').some(
    (item) => at(item, 'type') === 'Ready' && at(item, 'status') === 'True',
  );
}

function restarts(pod: StoredObject, nowMs: number): string {
  let total = 0;
  let last = Number.NEGATIVE_INFINITY;
  for (const container of statuses(pod)) {
    total += Number(at(container, 'restartCount') ?? 0);
    last = Math.max(last, Date.parse(textAt(container, 'lastState', 'terminated', 'finishedAt') ?? '') || last);
  }
  return total > 0 && Number.isFinite(last) ? `${total} (${humanDuration(nowMs - last)} ago)` : String(total);
}
