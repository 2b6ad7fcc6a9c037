/**
 * The node on which a new union's branches are made where their class waits for one: the scheduler's choice, unless claims
 * are adopted that cannot be reached from there. No scheduler knows of them, and one of Kubernetes 1.36 that hears
 * RESOURCE_EXHAUSTED comes back with the same node. A union whose volume tells that it is on another node is better understood:
 * the scheduler then takes the pod there, or says that the pod may not go there. Pure.
 */
import { ok, type Result } from '../base/result.ts';
import type { Node, PersistentVolume } from '../protocol/objects.ts';
import { type PlanError, refuse } from './plan-error.ts';
import { intersectTopology, isReachable } from './topology.ts';

export interface NodeWish {
  /** The nodes that it may be, the best first; none: nobody said. */
  readonly wanted: readonly string[];
  /** Of the claims to adopt. */
  readonly volumes: readonly PersistentVolume[];
  /** Of the cluster; needed where there are such volumes. */
  readonly nodes: readonly Node[];
}

export function chooseNode({ wanted, volumes, nodes }: NodeWish): Result<string | undefined, PlanError> {
  if (volumes.length === 0 || wanted.length === 0) return ok(wanted[0]);
  const common = intersectTopology(volumes.map((volume) => ({ branchId: volume.spec?.claimRef?.name ?? '', volume })));
  if (!common.ok) return common;
  const labelsOf = new Map(nodes.map(({ metadata }) => [metadata.name, metadata.labels ?? {}]));
  const found = wanted.find((name) => volumes.every((volume) => isReachable(volume, labelsOf.get(name) ?? {})));
  if (found !== undefined) return ok(found);
  const places = common.value.map((topology) => Object.values(topology).join(' and '));
  const message = `the claims to adopt are on ${places.join(' or ')}, and none of the nodes where the driver is can reach them`;
  return refuse('RESOURCE_EXHAUSTED', `${message}; see that a node plugin runs there`);
}
