/** GetCapacity: room for another union of a class, as far as its lower classes tell theirs. */
import type { GetCapacityRequest__Output } from '../protocol/generated/csi/v1/GetCapacityRequest.ts';
import type { GetCapacityResponse } from '../protocol/generated/csi/v1/GetCapacityResponse.ts';
import { parseParameters } from '../protocol/parameters.ts';
import { TOPOLOGY_KEY_NODE } from '../protocol/resources.ts';
import { availableCapacity, UNBOUNDED_BYTES } from '../union/available.ts';
import { parseCapability } from './capabilities.ts';
import type { ControllerDependencies } from './controller-common.ts';

export async function getCapacity(
  deps: ControllerDependencies,
  request: GetCapacityRequest__Output,
  signal: AbortSignal,
): Promise<GetCapacityResponse> {
  request.volumeCapabilities.forEach(parseCapability);
  const parameters = parseParameters(request.parameters);
  // CreateVolume says what is wrong; without room, a scheduler would not let it come to that.
  if (!parameters.ok) return { availableCapacity: String(UNBOUNDED_BYTES) };
  const { storageClasses, persistentVolumes, storageCapacities, nodes } = deps.room;
  await Promise.all(Object.values(deps.room).map((kind) => kind.synced(signal)));
  const segments = request.accessibleTopology?.segments;
  const node = nodes.get(segments?.[TOPOLOGY_KEY_NODE] ?? '');
  const observed = {
    storageClasses: storageClasses.list(),
    volumes: persistentVolumes.list(),
    capacities: storageCapacities.list(),
    node: segments && { ...node?.metadata.labels, ...segments },
  };
  return { availableCapacity: String(availableCapacity(parameters.value.branches, observed)) };
}
