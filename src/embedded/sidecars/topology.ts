/** Topology between nodes, CreateVolume and PersistentVolumes (external-provisioner, pkg/controller/topology.go). Pure. */
import type { V1VolumeNodeAffinity } from '@kubernetes/client-node';
import type { TopologyRequirement } from '../../protocol/generated/csi/v1/TopologyRequirement.ts';
import type { CSINode, Node } from '../../protocol/objects.ts';

export type Segments = Readonly<Record<string, string>>;

/** Where a driver is on this node; undefined when it is not, or its labels are not there yet. */
export function nodeTopology(
  driver: string,
  csiNode: CSINode | undefined,
  node: Node | undefined,
): Segments | undefined {
  const keys = csiNode?.spec?.drivers.find(({ name }) => name === driver)?.topologyKeys;
  if (!keys || keys.length === 0) return undefined;
  const segments: Record<string, string> = {};
  for (const key of keys) {
    const value = node?.metadata.labels?.[key];
    if (value === undefined) return undefined;
    segments[key] = value;
  }
  return segments;
}

/** All places where the volume could be, the scheduler's choice first. */
export function topologyRequirement(all: readonly Segments[], selected: Segments | undefined): TopologyRequirement {
  const first = selected === undefined ? [] : [selected];
  const id = JSON.stringify(selected);
  const terms = [...first, ...all.filter((segments) => JSON.stringify(segments) !== id)];
  const topologies = terms.map((segments) => ({ segments: { ...segments } }));
  return { requisite: topologies, preferred: topologies };
}

/** Topologies are alternatives; so are selector terms. */
export function toNodeAffinity(topologies: readonly { segments: Segments }[]): V1VolumeNodeAffinity | undefined {
  const nodeSelectorTerms = topologies
    .filter(({ segments }) => Object.keys(segments).length > 0)
    .map(({ segments }) => ({
      matchExpressions: Object.entries(segments)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, value]) => ({ key, operator: 'In', values: [value] })),
    }));
  return nodeSelectorTerms.length === 0 ? undefined : { required: { nodeSelectorTerms } };
}
