/**
 * CreateVolume: plan, write the UnionVolume, wait until its branches are there.
 * Nothing stays half made: a volume that was never handed out and cannot come to be, or was begun with other parameters,
 * is deleted again before the caller hears so; whoever then asks anew begins afresh.
 */
import { UnionError } from '../base/errors.ts';
import type { CreateVolumeRequest__Output } from '../protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { CreateVolumeResponse } from '../protocol/generated/csi/v1/CreateVolumeResponse.ts';
import {
  ANNOTATION_PROVISIONED,
  TOPOLOGY_KEY_NODE,
  type UnionVolume,
  type UnionVolumeSpec,
} from '../protocol/resources.ts';
import type { ClassFacts } from '../union/branches.ts';
import type { CapacityRange } from '../union/capacity.ts';
import { findCondition } from '../union/conditions.ts';
import { checkSameVolume } from '../union/existing.ts';
import { volumeIdOf } from '../union/ids.ts';
import { hasLostItsClaim } from '../union/lost-claim.ts';
import type { PlanError } from '../union/plan-error.ts';
import type { ReadyReason } from '../union/plan-volume.ts';
import { adoptedVolumes, adopts, planVolume, unionVolume, upperClaimOf, type VolumeRequest } from '../union/spec.ts';
import { parseCapabilities } from './capabilities.ts';
import { type ControllerDependencies, isCurrent, need } from './controller-common.ts';
import type { RpcContext } from './interceptors.ts';
import { parseRange, toCsiVolume } from './volumes.ts';
import { waitUntil } from './waiting.ts';

export async function createVolume(
  deps: ControllerDependencies,
  request: CreateVolumeRequest__Output,
  context: RpcContext,
): Promise<CreateVolumeResponse> {
  const asked = parseRequest(request);
  const id = volumeIdOf(asked.name);
  const existing = await existingVolume(deps, id, context);

  const facts = await readFacts(deps, asked.parameters, context.signal);
  const unwanted = unwantedBy(asked, facts);
  if (unwanted !== undefined && !isHandedOut(existing)) throw await abandoned(deps, existing, unwanted, context);
  const planned = planVolume(asked, facts);
  if (!planned.ok) throw await abandoned(deps, existing, planned.error, context);
  const volume = existing ?? (await written(deps, planned.value, context.signal));
  const same = checkSameVolume(volume.spec, planned.value, asked.capacity);
  if (!same.ok) throw await superseded(deps, volume, same.error, context);

  const current = await waitUntil(
    {
      key: id,
      changes: deps.volumeChanges,
      clock: deps.clock,
      read: (signal) => deps.volumes.get({ name: id }, signal),
      done: (latest) => latest === undefined || latest.metadata.uid !== volume.metadata.uid || isSettled(latest),
    },
    context,
  );
  if (current === undefined || current.metadata.deletionTimestamp) {
    throw new UnionError('ABORTED', `volume "${asked.name}" was deleted while it was made; repeat the call`);
  }
  const failure = failureOf(current);
  if (failure !== undefined) throw await abandoned(deps, current, failure, context);
  if (!isSettled(current)) throw new UnionError('ABORTED', `volume "${asked.name}" is pending: ${pendingOf(current)}`);
  return { volume: toCsiVolume(await handedOut(deps, current, context.signal)) };
}

type AskedVolume = VolumeRequest & { readonly capacity: CapacityRange };

/** What the specification bans in names: control characters but tab, line feed and carriage return. */
const BANNED_IN_NAMES = /(?![\t\n\r])\p{Cc}/u;

function parseRequest(request: CreateVolumeRequest__Output): AskedVolume {
  const name = need(request.name, 'name');
  if (BANNED_IN_NAMES.test(name)) throw new UnionError('INVALID_ARGUMENT', 'name has control characters in it');
  if (request.volumeContentSource !== null) {
    const message = 'a union cannot be made from a snapshot or a clone; leave dataSource out and copy the files';
    throw new UnionError('INVALID_ARGUMENT', message);
  }
  const mutable = Object.keys(request.mutableParameters);
  if (mutable.length > 0) {
    const message = `mutable parameters are not supported: ${mutable.join(', ')}; leave volumeAttributesClassName out`;
    throw new UnionError('INVALID_ARGUMENT', message);
  }
  const capabilities = parseCapabilities(request.volumeCapabilities);
  const { preferred = [], requisite = [] } = request.accessibilityRequirements ?? {};
  const nodes = [...preferred, ...requisite].flatMap(({ segments }) => segments[TOPOLOGY_KEY_NODE] ?? []);
  return {
    name,
    capacity: parseRange(request.capacityRange),
    accessModes: [...new Set(capabilities.map(({ accessMode }) => accessMode))],
    volumeMode: 'Filesystem',
    mountOptions: [...new Set(capabilities.flatMap(({ mountOptions }) => mountOptions))],
    parameters: request.parameters,
    nodes: [...new Set(nodes)],
  };
}

/** The volume of that name, if any; one that is being deleted is waited for. */
async function existingVolume(deps: ControllerDependencies, id: string, context: RpcContext) {
  const found = await waitUntil(
    {
      key: id,
      changes: deps.volumeChanges,
      clock: deps.clock,
      read: (signal) => deps.volumes.get({ name: id }, signal),
      done: (latest) => !latest?.metadata.deletionTimestamp,
    },
    context,
  );
  if (!found?.metadata.deletionTimestamp) return found;
  const message = `an earlier volume "${found.spec.volumeName}" is still being deleted: ${pendingOf(found)}`;
  throw new UnionError('ABORTED', message);
}

async function readFacts(
  deps: ControllerDependencies,
  parameters: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<ClassFacts> {
  const claim = upperClaimOf(parameters);
  if (!claim.ok) throw new UnionError(claim.error.code, claim.error.message);
  const [storageClasses, upperClaim] = await Promise.all([
    deps.storageClasses.list({}, signal),
    claim.value && deps.claims.get(claim.value, signal),
  ]);
  if (upperClaim === undefined || !adopts(upperClaim)) {
    const none = { claims: [], pods: [], adoptedVolumes: [], nodes: [] };
    return { storageClasses, ...none, ...(upperClaim && { upperClaim }) };
  }
  const { namespace } = upperClaim.metadata;
  const [claims, pods, nodes] = await Promise.all([
    deps.claims.list({ namespace }, signal),
    deps.pods.list({ namespace }, signal),
    deps.nodes.list({}, signal),
  ]);
  const names = adoptedVolumes(upperClaim, claims);
  const volumes = await Promise.all(names.map((name) => deps.persistentVolumes.get({ name }, signal)));
  const found = volumes.filter((volume) => volume !== undefined);
  return { storageClasses, claims, pods, upperClaim, adoptedVolumes: found, nodes };
}

/** The provisioner goes on asking until it hears of an end, for something may have been made. */
function unwantedBy({ name, parameters }: AskedVolume, { upperClaim }: ClassFacts): PlanError | undefined {
  const claim = upperClaimOf(parameters);
  if (!claim.ok || claim.value === undefined) return undefined;
  if (!hasLostItsClaim({ claim: claim.value, volumeName: name }, upperClaim)) return undefined;
  const message = `claim "${claim.value.namespace}/${claim.value.name}" has gone, and with it the need for volume "${name}"`;
  return { code: 'FAILED_PRECONDITION', message };
}

function isHandedOut(volume: UnionVolume | undefined): boolean {
  return volume?.metadata.annotations?.[ANNOTATION_PROVISIONED] !== undefined;
}

async function written(
  { volumes }: ControllerDependencies,
  spec: UnionVolumeSpec,
  signal: AbortSignal,
): Promise<UnionVolume> {
  const wanted = unionVolume(spec);
  const created = await volumes.create(wanted, signal);
  if (created.ok) return created.value;
  // Another replica was faster; what it wrote is compared with what we are asked for like any other.
  const other = await volumes.get(wanted.metadata, signal);
  if (other !== undefined) return other;
  throw new UnionError('ABORTED', `volume "${spec.volumeName}" is being made by another call; repeat the call`);
}

/** Ready, or never going to be. */
function isSettled(volume: UnionVolume): boolean {
  if (volume.metadata.deletionTimestamp) return true;
  if (!isCurrent(volume)) return false;
  return volume.status?.phase === 'Ready' || failureOf(volume) !== undefined;
}

function failureOf(volume: UnionVolume): PlanError | undefined {
  const ready = findCondition(volume.status?.conditions, 'Ready');
  if (ready === undefined || !isCurrent(volume)) return undefined;
  const message = `volume "${volume.spec.volumeName}": ${ready.message}`;
  switch (ready.reason as ReadyReason) {
    // The scheduler takes these for an answer about one node and tries another.
    case 'OutOfSpace':
    case 'NoCommonTopology':
      return { code: 'RESOURCE_EXHAUSTED', message };
    case 'Refused':
    case 'Lost':
      return { code: 'FAILED_PRECONDITION', message };
    default:
      return undefined;
  }
}

function pendingOf(volume: UnionVolume): string {
  const ready = findCondition(volume.status?.conditions, 'Ready');
  return ready?.status === 'False' ? ready.message : 'the controller has not looked at it yet';
}

/** The error of a call that fails for good, after the deletion of what was begun for it is under way. */
async function abandoned(
  deps: ControllerDependencies,
  volume: UnionVolume | undefined,
  { code, message }: PlanError,
  { signal, log }: RpcContext,
): Promise<UnionError> {
  if (volume !== undefined && !isHandedOut(volume)) {
    log.warn('volume.abandoned', { volumeId: volume.metadata.name, message });
    const { uid, resourceVersion } = volume.metadata;
    const deleted = await deps.volumes.delete(volume.metadata, { uid, resourceVersion }, signal);
    if (!deleted.ok) return new UnionError('ABORTED', `volume "${volume.spec.volumeName}" changed; repeat the call`);
  }
  return new UnionError(code, message);
}

/** A corrected request for a volume that was never handed out starts over; otherwise the name is taken. */
async function superseded(
  deps: ControllerDependencies,
  volume: UnionVolume,
  error: PlanError,
  context: RpcContext,
): Promise<UnionError> {
  if (isHandedOut(volume)) return new UnionError(error.code, error.message);
  const message = `${error.message.replace(/;[^;]*$/, '')}; what was begun is being removed, repeat the call`;
  return abandoned(deps, volume, { code: 'ABORTED', message }, context);
}

/** Marks the volume, before it is answered, as one that somebody knows of. */
async function handedOut(
  { volumes }: ControllerDependencies,
  volume: UnionVolume,
  signal: AbortSignal,
): Promise<UnionVolume> {
  if (isHandedOut(volume)) return volume;
  const { uid, resourceVersion } = volume.metadata;
  const patch = { metadata: { uid, resourceVersion, annotations: { [ANNOTATION_PROVISIONED]: 'true' } } };
  const marked = await volumes.patchMerge(volume.metadata, patch, signal);
  if (marked.ok) return marked.value;
  throw new UnionError('ABORTED', `volume "${volume.spec.volumeName}" changed as it became ready; repeat the call`);
}
