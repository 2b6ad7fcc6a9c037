/** Before the first test: lower drivers, and deploy/base as it is. After the last: everything we made is gone again. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gone, kubectl, run } from './kubectl.ts';
import { setUpLowers, tearDownLowers } from './lowers.ts';
import { clusterDir } from './nodes.ts';

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
      await gone(60_000, 'unionvolumes');
      await gone(10_000, 'unionattachments');
      await gone(60_000, 'pods', '--all-namespaces', '--selector', 'app.kubernetes.io/name=union-csi-server');
    } finally {
      tearDownLowers();
      await keepState();
    }
  },
};

/** For whoever looks into a failed run: the cluster as it was at the end, and what our pods said, beside the logs. */
async function keepState(): Promise<void> {
  const selector = 'app.kubernetes.io/name in (union-csi-controller,union-csi-node,union-csi-server)';
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
