/** Union CSI itself as a driver of the embedded cluster: the production commands, as child processes. */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DRIVER_NAME } from '../protocol/resources.ts';
import { checkout } from './checkout.ts';
import type { ChildSpec } from './children.ts';

/** A CSI driver that runs outside of this process. */
export interface ExternalDriver {
  readonly name: string;
  readonly attachRequired: boolean;
  readonly controllerSocket: string;
  /** What the cluster is to keep running for it. */
  readonly commands: readonly ChildSpec[];
}

export interface DriverPlaces {
  readonly clusterDir: string;
  readonly kubeconfig: string;
  /** Kubelet directory of each node, by its name. */
  readonly kubeletDirs: ReadonlyMap<string, string>;
}

export function unionDriver({ clusterDir, kubeconfig, kubeletDirs }: DriverPlaces): ExternalDriver {
  const program = join(checkout, 'bin', 'union-csi');
  const controllerSocket = join(clusterDir, 'run', 'controller.sock');
  const controller = ['--kubeconfig', kubeconfig, '--csi-endpoint', `unix://${controllerSocket}`];
  const nodes = [...kubeletDirs].map(([node, kubeletDir]) => {
    const socket = nodeSocket(kubeletDir);
    mkdirSync(dirname(socket), { recursive: true });
    const flags = ['--node-name', node, '--kubelet-dir', kubeletDir, '--csi-endpoint', `unix://${socket}`];
    return { name: `node-${node}`, command: [program, 'node', '--kubeconfig', kubeconfig, ...flags] };
  });
  return {
    name: DRIVER_NAME,
    attachRequired: true,
    controllerSocket,
    commands: [{ name: 'controller', command: [program, 'controller', ...controller] }, ...nodes],
  };
}

/** The longest of all socket paths: it decides how long a cluster's directory may be. */
export function nodeSocket(kubeletDir: string): string {
  return join(kubeletDir, 'plugins', DRIVER_NAME, 'csi.sock');
}
