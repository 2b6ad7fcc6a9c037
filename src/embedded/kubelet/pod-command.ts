/** From a pod's container to the command, environment and mounts it runs with. Pure. */
import { posix } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import type { Pod } from '../../protocol/objects.ts';
import type { ContainerSpec } from './container.ts';
import { podAddress } from './pod-address.ts';

type Container = NonNullable<Pod['spec']>['containers'][number];

/** `paths`: where each of the pod's volumes is on the node. */
export function containerSpec(
  pod: Pod,
  container: Container,
  { paths, logFile }: { paths: ReadonlyMap<string, string>; logFile: string },
): ContainerSpec {
  const environment = environmentOf(pod, container);
  const words = [...(container.command ?? []), ...(container.args ?? [])].map((word) => expand(word, environment));
  if (words.length === 0) {
    const message = `container "${container.name}" has neither command nor args; there is no image here that would name one`;
    throw new UnionError('INVALID_ARGUMENT', message);
  }
  const placed = (name: string, path: string) => {
    const source = paths.get(name);
    if (source === undefined)
      throw new UnionError(
        'INVALID_ARGUMENT',
        `container "${container.name}" mounts "${name}", which the pod does not have`,
      );
    const target = posix.normalize(path);
    if (!posix.isAbsolute(target) || target === '/') {
      throw new UnionError(
        'INVALID_ARGUMENT',
        `mountPath "${path}" of container "${container.name}" is not a path below /`,
      );
    }
    return { source, target: target.replace(/\/$/, '') };
  };
  const mounts = (container.volumeMounts ?? []).map(({ name, mountPath, readOnly, subPath }) => {
    if (subPath)
      throw new UnionError(
        'INVALID_ARGUMENT',
        `container "${container.name}" uses subPath, which the embedded kubelet does not have`,
      );
    return { ...placed(name, mountPath), readOnly: readOnly ?? false };
  });
  return {
    command: [...confinement(container), ...words],
    environment,
    workingDirectory: container.workingDir ?? '/',
    mounts: mounts.sort((a, b) => (a.target < b.target ? -1 : 1)),
    devices: (container.volumeDevices ?? []).map(({ name, devicePath }) => placed(name, devicePath)),
    readOnlyRoot: container.securityContext?.readOnlyRootFilesystem ?? false,
    logFile,
  };
}

/** A bare device cannot be mounted, nor a filesystem be a device: kubelet refuses what it cannot give. */
export function checkVolumeMode(pod: Pod, volume: string, mode: string): void {
  const field = mode === 'Block' ? 'volumeMounts' : 'volumeDevices';
  for (const container of pod.spec?.containers ?? []) {
    if (!container[field]?.some(({ name }) => name === volume)) continue;
    throw new UnionError('INVALID_ARGUMENT', `volume ${volume} has volumeMode ${mode}, but is specified in ${field}`);
  }
}

function environmentOf(pod: Pod, { env = [] }: Container): Readonly<Record<string, string>> {
  const environment: Record<string, string> = { HOSTNAME: pod.metadata.name };
  for (const { name, value, valueFrom } of env) {
    if (valueFrom?.fieldRef) environment[name] = field(pod, valueFrom.fieldRef.fieldPath);
    else if (valueFrom)
      throw new UnionError('INVALID_ARGUMENT', `variable ${name}: the embedded kubelet knows value and fieldRef only`);
    else environment[name] = expand(value ?? '', environment);
  }
  return environment;
}

function field(pod: Pod, path: string): string {
  switch (path) {
    case 'metadata.name':
      return pod.metadata.name;
    case 'metadata.namespace':
      return pod.metadata.namespace ?? '';
    case 'metadata.uid':
      return pod.metadata.uid ?? '';
    case 'spec.nodeName':
      return pod.spec?.nodeName ?? '';
    case 'status.podIP':
      return podAddress(pod);
    case 'status.hostIP':
      return '127.0.0.1';
    default:
      throw new UnionError('INVALID_ARGUMENT', `fieldPath "${path}" is not one that the embedded kubelet knows`);
  }
}

/** `$(NAME)` is a variable's value if there is one, `$$` a dollar. */
function expand(text: string, environment: Readonly<Record<string, string>>): string {
  return text.replace(/\$(?:\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))/g, (whole, name?: string) =>
    name === undefined ? '$' : (environment[name] ?? whole),
  );
}

/** What of a security context a process of this machine can be held to: its capabilities and its user. */
function confinement({ securityContext }: Container): readonly string[] {
  const { capabilities, runAsUser, runAsGroup } = securityContext ?? {};
  const words: string[] = [];
  if (capabilities?.drop?.includes('ALL')) {
    const kept = (capabilities.add ?? []).map((name) => `+${name.toLowerCase()}`);
    words.push(`--bounding-set=${['-all', ...kept].join(',')}`);
  }
  if (runAsUser) words.push(`--reuid=${runAsUser}`, '--clear-groups');
  if (runAsGroup) words.push(`--regid=${runAsGroup}`);
  return words.length === 0 ? [] : ['setpriv', ...words, '--'];
}
