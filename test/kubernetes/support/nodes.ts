/** What a test does on a node as its administrator would: look, kill, restart, pull the plug. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Node } from '../../../src/protocol/objects.ts';
import { get, output } from './kubectl.ts';

export const NODES = ['node-1', 'node-2', 'node-3'] as const;
export type NodeName = (typeof NODES)[number];

export function clusterDir(): string {
  const directory = process.env.CLUSTER_DIR;
  if (directory === undefined) throw new Error('these tests run inside a test cluster: npm run test:kubernetes');
  return directory;
}

export function nodeDir(node: NodeName): string {
  return join(clusterDir(), node);
}

/** Runs a shell script in the node's namespaces; its output. */
export function onNode(node: NodeName, script: string): Promise<string> {
  const pid = readFileSync(join(nodeDir(node), 'pid'), 'utf8').trim();
  const namespaces = ['--target', pid, '--mount', '--net', '--uts', '--pid'];
  return output('nsenter', [...namespaces, '--', 'bash', '-euc', script]);
}

/** Mounts of unions that the node has. */
export async function unionMounts(node: NodeName): Promise<readonly string[]> {
  const text = await onNode(node, 'findmnt --raw --noheadings --types fuse.union --output TARGET || true');
  return text.split('\n').filter((line) => line !== '');
}

/** As a power failure: all that it runs is gone at once. */
export function pullThePlug(node: NodeName): void {
  process.kill(Number(readFileSync(join(nodeDir(node), 'pid'), 'utf8')), 'SIGKILL');
}

/** Whether the cluster takes the node for one that works. It takes its time to see that one does not. */
export async function isReady(node: NodeName): Promise<boolean> {
  const conditions = (await get<Node>('node', node))?.status?.conditions;
  return conditions?.find(({ type }) => type === 'Ready')?.status === 'True';
}
