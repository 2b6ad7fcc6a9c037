/** Union CSI and its block engine as drivers of the embedded cluster: the production commands, as child processes. */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BLOCK_DRIVER_NAME } from '../protocol/block-resources.ts';
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
  /** Directories of resource definitions that it needs besides those of Union CSI. */
  readonly definitions?: readonly string[];
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

/** Each node keeps replicas in a directory of its own; all of them share the machine's disk. */
export function blockDriver({ clusterDir, kubeconfig, kubeletDirs }: DriverPlaces): ExternalDriver {
  const program = join(checkout, 'bin', 'union-csi');
  const controllerSocket = join(clusterDir, 'run', 'block.sock');
  const controller = ['--kubeconfig', kubeconfig, '--csi-endpoint', `unix://${controllerSocket}`];
  const nodes = [...kubeletDirs].map(([node, kubeletDir]) => {
    const socket = join(kubeletDir, 'plugins', BLOCK_DRIVER_NAME, 'csi.sock');
    mkdirSync(dirname(socket), { recursive: true });
    const pool = `default=${join(dirname(kubeletDir), 'block')}`;
    const ports = ['--peer-port', '0', '--export-port', '0'];
    const flags = ['--node-name', node, '--kubelet-dir', kubeletDir, '--csi-endpoint', `unix://${socket}`];
    const command = [program, 'block-node', '--kubeconfig', kubeconfig, ...flags, '--pool', pool, ...ports];
    return { name: `block-${node}`, command };
  });
  return {
    name: BLOCK_DRIVER_NAME,
    attachRequired: true,
    controllerSocket,
    commands: [{ name: 'block-controller', command: [program, 'block-controller', ...controller] }, ...nodes],
    definitions: [join(checkout, 'deploy', 'overlays', 'block-engine', 'crds')],
  };
}

function nodeSocket(kubeletDir: string): string {
  return join(kubeletDir, 'plugins', DRIVER_NAME, 'csi.sock');
}
