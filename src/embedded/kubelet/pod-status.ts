/** What a pod's containers did, as its status says it, and what is to be done next. Pure. */
import type { Pod } from '../../protocol/objects.ts';
import type { ContainerRun } from './container.ts';
import { podAddress } from './pod-address.ts';

type Container = NonNullable<Pod['spec']>['containers'][number];
type PodStatus = NonNullable<Pod['status']>;
type ContainerStatus = NonNullable<PodStatus['containerStatuses']>[number];
type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

/** Kubelet's are ten seconds and five minutes; here everything is near and small. */
const RESTART_BASE_MS = 1_000;
const RESTART_MAX_MS = 30_000;
/** A run this long was healthy: the next failure is a first one. */
const HEALTHY_MS = 60_000;

export type NextStep =
  | { readonly kind: 'start'; readonly restart: number }
  | { readonly kind: 'start-later'; readonly inMs: number }
  /** It is starting, runs, or has ended for good. */
  | { readonly kind: 'none' };

/** The first restart is immediate, each further one waits twice as long. */
export function nextStep(run: ContainerRun | undefined, policy: RestartPolicy, now: number): NextStep {
  if (!run) return { kind: 'start', restart: 0 };
  if (run.kind !== 'exited' || isFinal(run, policy)) return { kind: 'none' };
  const next = { kind: 'start', restart: run.restart + 1 } as const;
  if (run.restart === 0 || run.finishedAt - run.startedAt >= HEALTHY_MS) return next;
  const backoffMs = Math.min(RESTART_MAX_MS, RESTART_BASE_MS * 2 ** Math.min(run.restart - 1, 20));
  const inMs = run.finishedAt + backoffMs - now;
  return inMs <= 0 ? next : { kind: 'start-later', inMs };
}

function isFinal(run: ContainerRun, policy: RestartPolicy): boolean {
  if (run.kind !== 'exited') return false;
  return policy === 'Never' || (policy === 'OnFailure' && run.exitCode === 0);
}

export function restartPolicyOf(pod: Pod): RestartPolicy {
  const policy = pod.spec?.restartPolicy;
  return policy === 'Never' || policy === 'OnFailure' ? policy : 'Always';
}

export interface PodFacts {
  /** The latest run of each container, by its name. */
  readonly runs: ReadonlyMap<string, ContainerRun | undefined>;
  /** Why no container can start, where there is a reason. */
  readonly problem?: { readonly reason: string; readonly message: string } | undefined;
  readonly now: number;
}

/** The status of a pod that is on a node. Equal facts give equal statuses, whatever the time. */
export function podStatus(pod: Pod, facts: PodFacts): PodStatus {
  const policy = restartPolicyOf(pod);
  const statuses = (pod.spec?.containers ?? []).map((container) =>
    containerStatus(container, facts.runs.get(container.name), { policy, problem: facts.problem }),
  );
  const phase = phaseOf(statuses, [...facts.runs.values()], policy);
  const ready = statuses.every((status) => status.ready);
  const over = phase === 'Succeeded' || phase === 'Failed';
  const reason = ready ? {} : { reason: over ? 'PodCompleted' : 'ContainersNotReady' };
  const condition = (type: string, status: boolean, why = {}) => {
    const before = pod.status?.conditions?.find((known) => known.type === type);
    const value = status ? 'True' : 'False';
    const since = before?.status === value ? before.lastTransitionTime : undefined;
    return { type, status: value, lastTransitionTime: since ?? toTime(facts.now), ...why };
  };
  return {
    ...pod.status,
    phase,
    conditions: [
      condition('PodScheduled', true),
      condition('Initialized', true),
      condition('ContainersReady', ready, reason),
      condition('Ready', ready, reason),
    ],
    containerStatuses: statuses,
    hostIP: '127.0.0.1',
    podIP: podAddress(pod),
    podIPs: [{ ip: podAddress(pod) }],
    startTime: pod.status?.startTime ?? toTime(facts.now),
  };
}

function phaseOf(
  statuses: readonly ContainerStatus[],
  runs: readonly (ContainerRun | undefined)[],
  policy: RestartPolicy,
): string {
  if (runs.length > 0 && runs.every((run) => run !== undefined && isFinal(run, policy))) {
    return statuses.every(({ state }) => state?.terminated?.exitCode === 0) ? 'Succeeded' : 'Failed';
  }
  return runs.some((run) => run && run.kind !== 'starting') ? 'Running' : 'Pending';
}

function containerStatus(
  { name, image = '' }: Container,
  run: ContainerRun | undefined,
  { policy, problem }: { policy: RestartPolicy; problem: PodFacts['problem'] },
): ContainerStatus {
  const base = { name, image, imageID: '', restartCount: run?.restart ?? 0 };
  if (!run || run.kind === 'starting') {
    const waiting = problem ?? { reason: 'ContainerCreating' };
    return { ...base, ready: false, started: false, state: { waiting } };
  }
  const containerID = `process://${run.directory.slice(run.directory.lastIndexOf('/') + 1)}`;
  if (run.kind === 'running') {
    const running = { startedAt: toTime(run.startedAt) };
    return { ...base, containerID, ready: true, started: true, state: { running } };
  }
  const terminated = {
    containerID,
    exitCode: run.exitCode,
    reason: run.exitCode === 0 ? 'Completed' : 'Error',
    startedAt: toTime(run.startedAt),
    finishedAt: toTime(run.finishedAt),
  };
  if (isFinal(run, policy)) {
    return { ...base, containerID, ready: false, started: false, state: { terminated } };
  }
  const waiting = { reason: 'CrashLoopBackOff', message: `exited with ${run.exitCode}; it is about to be restarted` };
  return { ...base, containerID, ready: false, started: false, state: { waiting }, lastState: { terminated } };
}

/** A pod whose containers were ended because it is deleted, or its node gave it up. */
export function terminatedStatus(pod: Pod, facts: PodFacts): PodStatus {
  const status = podStatus({ ...pod, spec: { ...pod.spec!, restartPolicy: 'Never' } }, facts);
  return facts.runs.size > 0 && [...facts.runs.values()].every((run) => run) ? status : { ...status, phase: 'Failed' };
}

function toTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
