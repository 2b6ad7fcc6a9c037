/** On which node a pod may run, as far as its own affinity and its volumes say. Pure. */
import type { Node, PersistentVolume, Pod } from '../../protocol/objects.ts';
import { matchesSelector } from './node-affinity.ts';

/** What a pod's claims mean for the choice: bound volumes tie it to places; claims of delayed classes follow it. */
export interface SchedulingFacts {
  readonly nodes: readonly Node[];
  /** Volumes of the pod's bound claims. */
  readonly volumes: readonly PersistentVolume[];
  /** Nodes that unbound claims of the pod were already promised, by annotation. */
  readonly selectedNodes: readonly string[];
  /** Pods that each node has. */
  readonly podsOnNode: ReadonlyMap<string, number>;
  /** Nodes on which the pod's volumes found no space, the latest last: others first. */
  readonly refused: readonly string[];
}

export type Choice =
  | { readonly kind: 'node'; readonly name: string }
  | { readonly kind: 'none'; readonly message: string };

export function chooseNode(pod: Pod, facts: SchedulingFacts): Choice {
  const reasons = new Map<string, number>();
  const fitting = facts.nodes.filter((node) => {
    const reason = unfit(pod, node, facts);
    if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    return reason === undefined;
  });
  const load = (node: Node) => facts.podsOnNode.get(node.metadata.name) ?? 0;
  const refusals = (node: Node) => facts.refused.lastIndexOf(node.metadata.name);
  const best = fitting.sort(
    (a, b) => refusals(a) - refusals(b) || load(a) - load(b) || (a.metadata.name < b.metadata.name ? -1 : 1),
  )[0];
  if (best) return { kind: 'node', name: best.metadata.name };
  const why = [...reasons].map(([reason, count]) => `${count} ${reason}`).join(', ');
  return { kind: 'none', message: `0/${facts.nodes.length} nodes are available: ${why || 'no nodes are registered'}.` };
}

function unfit(pod: Pod, node: Node, facts: SchedulingFacts): string | undefined {
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True';
  if (!ready) return 'node(s) were not ready';
  if (node.spec?.unschedulable) return 'node(s) were unschedulable';
  const labels = Object.entries(pod.spec?.nodeSelector ?? {});
  const required = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const matchesLabels = labels.every(([name, value]) => node.metadata.labels?.[name] === value);
  if (!matchesLabels || (required && !matchesSelector(node, required))) {
    return "node(s) didn't match Pod's node affinity/selector";
  }
  if (facts.selectedNodes.some((name) => name !== node.metadata.name)) {
    return 'node(s) were not the one chosen for a volume';
  }
  const conflicting = facts.volumes.some(({ spec }) => {
    const affinity = spec?.nodeAffinity?.required;
    return affinity !== undefined && !matchesSelector(node, affinity);
  });
  return conflicting ? 'node(s) had volume node affinity conflict' : undefined;
}
