/**
 * What is wrong with a claim, out of what was read of the cluster. From the top down, as a person would look: claim, union,
 * branches, attachments and their servers, pods; of each what it says itself and its last warning. Pure.
 */
import type { CoreEvent, KubeObject, PersistentVolumeClaim, Pod, StorageClass } from '../../protocol/objects.ts';
import { DRIVER_NAME, LABEL_BRANCH, LABEL_VOLUME, type UnionAttachment } from '../../protocol/resources.ts';
import { findCondition } from '../../union/conditions.ts';
import { UNION_CONDITIONS } from '../../union/volume-status.ts';
import type { Union } from './cluster.ts';

export interface Finding {
  /** What it is about, as kubectl names it: `pvc default/data`. */
  readonly about: string;
  readonly state: string;
  readonly isTrouble: boolean;
}

export interface Explanation {
  readonly isHealthy: boolean;
  readonly findings: readonly Finding[];
  /** What to do, most promising first. */
  readonly advice: readonly string[];
}

export interface ExplainFacts {
  readonly claim: PersistentVolumeClaim;
  readonly storageClass: StorageClass | undefined;
  readonly union: Union | undefined;
  readonly lowerClaims: readonly PersistentVolumeClaim[];
  readonly servers: readonly Pod[];
  /** Pods that use the claim. */
  readonly users: readonly Pod[];
  readonly warnings: readonly CoreEvent[];
}

export function explainClaim(facts: ExplainFacts): Explanation {
  const findings = [
    aboutClaim(facts),
    ...aboutUnion(facts),
    ...aboutAttachments(facts),
    ...facts.users.map((pod) => aboutPod(facts, pod)),
  ];
  const isHealthy = findings.every(({ isTrouble }) => !isTrouble);
  return { isHealthy, findings, advice: isHealthy ? [] : adviceOn(facts) };
}

function aboutClaim({ claim, storageClass, union, warnings }: ExplainFacts): Finding {
  const phase = claim.status?.phase ?? 'Pending';
  const className = claim.spec?.storageClassName ?? '';
  const kind = storageClass ? `of class ${className}` : `of class "${className}", which does not exist`;
  const isTrouble = phase !== 'Bound' || claim.metadata.deletionTimestamp !== undefined;
  // What the union says itself is newer than an event about it.
  const warning = isTrouble && !union ? lastWarning(warnings, claim) : undefined;
  return { about: titleOf('pvc', claim), state: words([phase, kind, warning]), isTrouble };
}

function aboutUnion({ union, lowerClaims, warnings }: ExplainFacts): readonly Finding[] {
  if (!union) return [];
  const { volume, usage, silence } = union;
  const { status, spec } = volume;
  const troubles = UNION_CONDITIONS.map((type) => findCondition(status?.conditions, type)).filter(
    (each) => each?.status === 'False',
  );
  const findings: Finding[] = [
    {
      about: `unionvolume ${volume.metadata.name}`,
      state: words([status?.phase ?? 'Pending', ...troubles.map((each) => each?.message)]),
      isTrouble: status?.phase !== 'Ready' || troubles.length > 0,
    },
  ];
  for (const branch of spec.branches) {
    const own = status?.branches?.find(({ id }) => id === branch.id);
    const lower = lowerClaims.find(({ metadata }) => metadata.name === branch.claim.name);
    const used = usage?.branches.find(({ id }) => id === branch.id);
    const isBound = own?.phase === 'Bound';
    const isIll = used !== undefined && used.health !== 'ok';
    const warning = isBound || !lower ? undefined : lastWarning(warnings, lower);
    const where = `pvc ${branch.claim.namespace}/${branch.claim.name}${lower ? '' : ', which is not there'}`;
    findings.push({
      about: `  branch ${branch.id}`,
      state: words([own?.phase ?? 'Pending', where, own?.message, isIll && used.health, warning]),
      isTrouble: !isBound || isIll,
    });
  }
  if (silence !== undefined) findings.push({ about: '  usage', state: silence, isTrouble: false });
  return findings;
}

function aboutAttachments(facts: ExplainFacts): readonly Finding[] {
  return (facts.union?.attachments ?? []).flatMap((attachment) => {
    const { spec, status, metadata } = attachment;
    const ready = findCondition(status?.conditions, 'Ready');
    const isTrouble = status?.phase !== 'Running' || ready?.status === 'False';
    const own = {
      about: `node ${spec.node}`,
      state: words([status?.phase ?? 'Pending', isTrouble && ready?.message, metadata.deletionTimestamp && 'is to go']),
      isTrouble,
    };
    return [own, ...facts.servers.filter((pod) => isServerOf(attachment, pod)).map((pod) => aboutPod(facts, pod))];
  });
}

function isServerOf({ metadata }: UnionAttachment, pod: Pod): boolean {
  return pod.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid) === true;
}

function aboutPod({ warnings }: ExplainFacts, pod: Pod): Finding {
  const phase = pod.metadata.deletionTimestamp ? 'Terminating' : (pod.status?.phase ?? 'Pending');
  const waiting = pod.status?.containerStatuses?.find(({ state }) => state?.waiting)?.state?.waiting;
  const restarts = pod.status?.containerStatuses?.reduce((sum, { restartCount }) => sum + restartCount, 0) ?? 0;
  const unscheduled = pod.status?.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'False');
  const isTrouble = phase !== 'Running' && phase !== 'Succeeded';
  const state = words([
    phase,
    pod.spec?.nodeName && `on ${pod.spec.nodeName}`,
    restarts > 0 && `${restarts} restarts`,
    waiting?.reason !== 'ContainerCreating' && waiting?.reason,
    waiting?.message ?? unscheduled?.message,
    isTrouble && lastWarning(warnings, pod),
  ]);
  const role = pod.metadata.labels?.[LABEL_VOLUME] === undefined ? '' : '  server ';
  return { about: `${role}${titleOf('pod', pod)}`, state, isTrouble };
}

function adviceOn({ claim, storageClass, union, users, servers }: ExplainFacts): readonly string[] {
  const name = claim.metadata.name;
  if (!storageClass) return ['create the storage class, or make the claim anew with another'];
  if (storageClass.provisioner !== DRIVER_NAME) {
    const class_ = storageClass.metadata.name;
    return [`class ${class_} is of ${storageClass.provisioner}, not of unions: this claim is none of ours`];
  }
  if (!union) {
    const waits = storageClass.volumeBindingMode === 'WaitForFirstConsumer' && users.length === 0;
    if (waits) return ['start a pod that uses the claim: its class waits for the first one to choose the node'];
    return [
      `kubectl describe pvc ${name} -n ${claim.metadata.namespace} shows what the provisioner says`,
      'kubectl get pods -n union-csi shows whether the controller runs',
    ];
  }
  const own = UNION_CONDITIONS.map((type) => findCondition(union.volume.status?.conditions, type)?.reason ?? '');
  const advice = own.flatMap((reason) => ADVICE[reason] ?? []);
  const attached = union.attachments.map(({ status }) => findCondition(status?.conditions, 'Ready')?.reason ?? '');
  for (const each of attached) advice.push(...(ADVICE[each] ?? []));
  if (servers.some((pod) => pod.status?.phase === 'Pending')) {
    advice.push('kubectl describe the server pod: the node may lack a lower volume, room, or the image');
  }
  const full = union.usage?.branches.filter(({ health }) => health === 'full') ?? [];
  if (full.length > 0) {
    advice.push(
      `kubectl union add-branch ${name} adds room; so does a larger request of the claim, if its class allows it`,
    );
  }
  return [...new Set(advice)];
}

/** By reasons of conditions, of unions and attachments. */
const ADVICE: Readonly<Record<string, readonly string[]>> = {
  Provisioning: [`kubectl get pvc -n union-csi -l ${LABEL_BRANCH} shows lower claims that wait for their driver`],
  OutOfSpace: ['free space in the lower class on that node, or let the pod be scheduled to another'],
  Refused: ['do what the message of the refused branch says; the union goes on by itself'],
  Lost: ['put the lost lower volume back: a branch that had files is never made anew, empty'],
  NoCommonTopology: ['make the branches where one node can reach them all'],
  BranchUnavailable: ['see what is with the lower volume and its driver; the branch is taken back when it works again'],
  BranchReadOnly: ['have the lower filesystem checked, for it takes no changes: new files go to other branches'],
  AttachedElsewhere: [
    'stop the pods on the other node; if it is dead, declare it: kubectl taint node NAME node.kubernetes.io/out-of-service=nodeshutdown:NoExecute',
  ],
  BranchRefused: ['stop the pod that uses the adopted claim, or adopt it with "shared: true"'],
};

function lastWarning(warnings: readonly CoreEvent[], { metadata }: KubeObject): string | undefined {
  const timeOf = (event: CoreEvent) => event.lastTimestamp ?? event.eventTime ?? '';
  const own = warnings.filter(({ involvedObject }) => involvedObject?.uid === metadata.uid);
  const [last] = own.toSorted((left, right) => (timeOf(left) < timeOf(right) ? 1 : -1));
  return last && `${last.reason}: ${(last.message ?? '').replaceAll(/\s+/g, ' ').trim()}`;
}

function titleOf(kind: string, { metadata }: KubeObject): string {
  return `${kind} ${metadata.namespace}/${metadata.name}`;
}

function words(parts: readonly (string | false | undefined)[]): string {
  return [...new Set(parts.filter(Boolean))].join('; ');
}

export function formatExplanation(title: string, { isHealthy, findings, advice }: Explanation): readonly string[] {
  const width = Math.max(...findings.map(({ about }) => about.length));
  return [
    `${title}: ${isHealthy ? 'nothing is wrong' : 'not as it should be'}`,
    '',
    ...findings.map(({ about, state, isTrouble }) => `${isTrouble ? '✗' : '✓'} ${about.padEnd(width)}  ${state}`),
    ...(advice.length > 0 ? ['', 'what to do:', ...advice.map((each) => `  ${each}`)] : []),
  ];
}
