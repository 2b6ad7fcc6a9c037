/** GetCapacity: room for another union of a class, as far as its lower classes tell theirs. */

import { UnionError } from '../base/errors.ts';
import type { GetCapacityRequest__Output } from '../protocol/generated/csi/v1/GetCapacityRequest.ts';
import type { GetCapacityResponse } from '../protocol/generated/csi/v1/GetCapacityResponse.ts';
import { parseParameters } from '../protocol/parameters.ts';
import { TOPOLOGY_KEY_NODE } from '../protocol/resources.ts';
import { availableCapacity } from '../union/available.ts';
import { parseCapability } from './capabilities.ts';
import type { ControllerDependencies } from './controller-common.ts';

export async function getCapacity(
  deps: ControllerDependencies,
  request: GetCapacityRequest__Output,
  signal: AbortSignal,
): Promise<GetCapacityResponse> {
  request.volumeCapabilities.forEach(parseCapability);
  const parameters = parseParameters(request.parameters);
  if (!parameters.ok) throw new UnionError('INVALID_ARGUMENT', parameters.error);
  const segments = request.accessibleTopology?.segments;
  const name = segments?.[TOPOLOGY_KEY_NODE];
  const [storageClasses, volumes, capacities, node] = await Promise.all([
    deps.storageClasses.list({}, signal),
    deps.persistentVolumes.list({}, signal),
    deps.storageCapacities.list({}, signal),
    name === undefined ? undefined : deps.nodes.get({ name }, signal),
  ]);
  const labels = segments && { ...node?.metadata.labels, ...segments };
  const observed = { storageClasses, volumes, capacities, node: labels };
  return { availableCapacity: String(availableCapacity(parameters.value.branches, observed)) };
}
