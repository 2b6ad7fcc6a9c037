/** Before the first test: lower drivers, and deploy/base as it is. After the last: everything we made is gone again. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Node, PersistentVolumeClaim } from '../../../src/protocol/objects.ts';
import { eventually } from '../../support/eventually.ts';
import { gone, kubectl, list, run } from './kubectl.ts';
import { setUpLowers, tearDownLowers } from './lowers.ts';
import { clusterDir, type NodeName, onNode } from './nodes.ts';

const KUBELET = '/var/lib/kubelet';
const base = join(import.meta.dirname, '../../../deploy/base');

export const mochaHooks = {
  async beforeAll(this: Mocha.Context): Promise<void> {
    this.timeout(300_000);
    // Twice: nothing that exists keeps the API server from checking all of it, the namespace included.
    await kubectl('apply', '--kustomize', base);
    await kubectl('apply', '--kustomize', base, '--dry-run=server');
    await setUpLowers();
    await kubectl('--namespace', 'union-csi', 'rollout', 'status', '--timeout=240s', 'deployment/union-csi-controller');
    await kubectl('--namespace', 'union-csi', 'rollout', 'status', '--timeout=240s', 'daemonset/union-csi-node');
  },
  async afterAll(this: Mocha.Context): Promise<void> {
    this.timeout(120_000);
    try {
      await nothingIsLeft();
    } finally {
      tearDownLowers();
      await keepState();
    }
  },
};

/** Of volumes, in the cluster and on every node that it has. */
export async function nothingIsLeft(): Promise<void> {
  await gone(60_000, 'unionvolumes');
  await gone(10_000, 'unionattachments');
  await gone(30_000, 'volumeattachments');
  // Servers, feeders, and what gives adopted claims back; lower claims.
  await gone(60_000, 'pods,pvc', '--all-namespaces', '--selector', 'union.csi.dev/volume');
  const claims = await list<PersistentVolumeClaim>('pvc', '--all-namespaces');
  const held = claims.filter(({ metadata }) => metadata.finalizers?.some((name) => name.startsWith('union.csi.dev/')));
  if (held.length > 0)
    throw new Error(`claims are still held: ${held.map(({ metadata }) => metadata.name).join(', ')}`);
  for (const { metadata } of await list<Node>('nodes')) {
    const name = metadata.name as NodeName;
    await eventually(`nothing of unions on ${name}`, async () => (await leftOn(name)).trim() === '', 30_000).catch(
      async (error: Error) => {
        throw new Error(`${error.message}: ${await leftOn(name)}`);
      },
    );
  }
}

/** Mounts, staging directories, and processes and sockets of pods that have gone. */
function leftOn(node: NodeName): Promise<string> {
  return onNode(
    node,
    `findmnt --raw --noheadings --types fuse.union,fuse.union-block --output TARGET || true
     find ${KUBELET}/plugins/kubernetes.io/csi/union.csi.dev -mindepth 1 2>/dev/null || true
     find ${KUBELET}/pods -name server.sock
     pgrep -af '[c]li.* ((server|feeder) --socket|block-attach)' || true`,
  );
}

/** For whoever looks into a failed run: the cluster as it was at the end, and what our pods said, beside the logs. */
async function keepState(): Promise<void> {
  const selector =
    'app.kubernetes.io/name in (union-csi-controller,union-csi-node,union-csi-server,union-csi-block-controller,union-csi-block-node,union-csi-block-keeper)';
  const commands = [
    [
      'get',
      'events,pods,pvc,pv,volumeattachments,unionvolumes,unionattachments',
      '--all-namespaces',
      '--output',
      'wide',
    ],
    ['describe', 'pods,pvc,unionvolumes,unionattachments', '--all-namespaces'],
    ['logs', '--namespace', 'union-csi', '--selector', selector, '--all-containers', '--prefix', '--tail=-1'],
  ];
  const outcomes = await Promise.all(commands.map((args) => run('kubectl', args)));
  const text = outcomes.map(
    ({ stdout, stderr }, index) => `# kubectl ${commands[index]!.join(' ')}\n${stdout}${stderr}\n`,
  );
  writeFileSync(join(clusterDir(), 'logs/state.txt'), text.join('\n'));
}
