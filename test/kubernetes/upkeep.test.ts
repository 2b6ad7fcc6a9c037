/** What administrators do to a cluster while a union is written to: the application must not notice. */
import { expect } from 'chai';
import type { Pod } from '../../src/protocol/objects.ts';
import type { UnionAttachment } from '../../src/protocol/resources.ts';
import { STEADY_MS } from '../../src/union/crash-loop.ts';
import { eventually } from '../support/eventually.ts';
import { apply, get, gone, kubectl, list, output, run, UNION_PLUGIN, union } from './support/kubectl.ts';
import { type NodeName, onNode } from './support/nodes.ts';
import { claim, deleted, ended, pod, podOf, running, unionClass, workload } from './support/workloads.ts';

/** Writes, renames, reads back and compares, until the file `stop` is there. A failed operation ends it with an error. */
const CHECKED_LOAD = `
  n=0
  while [ ! -e stop ]; do
    n=$((n + 1)); name=f$((n % 40))
    head -c $((n % 7 * 5000)) /dev/zero > $name.new; echo "content $n" >> $name.new
    mv $name.new $name
    [ "$(tail -n 1 $name)" = "content $n" ]
    rm -f f$(((n + 20) % 40))
    echo $n > round
  done
  echo "$n rounds"`;

/** There is only one union in these tests. */
const KILL_SERVER = "kill -9 $(pgrep -f '[c]li.* server --socket' | head -n 1)";
const PLUGINS = ['--namespace', 'union-csi', '--selector', 'app.kubernetes.io/name=union-csi-node'];
const servers = () =>
  list<Pod>('pods', '--namespace', 'union-csi', '--selector', 'app.kubernetes.io/name=union-csi-server');

describe('a union under load', () => {
  before(async () => {
    const parameters = { lowerStorageClassName: 'shared', branches: '3', createPolicy: 'rand' };
    await apply(unionClass({ name: 'shared-union', parameters }));
    await apply(claim({ name: 'load', storageClassName: 'shared-union', size: '300Mi' }));
    await apply(pod({ name: 'load', claim: 'load', script: CHECKED_LOAD, node: 'node-1' }));
    await running('load');
  });

  /** It has gone on, a while after whatever was done. */
  const stillRuns = async () => {
    const round = async () => Number((await run('kubectl', ['exec', 'load', '--', 'cat', '/data/round'])).stdout);
    const reached = await round();
    await eventually('a load that goes on', async () => (await round()) > reached + 5, 60_000);
    expect((await get<Pod>('pod', 'load'))?.status?.phase).to.equal('Running');
  };
  const server = async () => (await servers())[0];

  it('goes on while the node plugin is updated', async () => {
    await kubectl('--namespace', 'union-csi', 'rollout', 'restart', 'daemonset/union-csi-node');
    await kubectl('--namespace', 'union-csi', 'rollout', 'status', '--timeout=180s', 'daemonset/union-csi-node');
    await stillRuns();
  });

  it('goes on while the controller is updated', async () => {
    // From here on the sidecars ask as they do an API server that cannot stream what there is: they list it, and then watch.
    const listing = 'KUBE_FEATURE_WatchListClient=false';
    await kubectl('--namespace', 'union-csi', 'set', 'env', 'deployment/union-csi-controller', listing);
    await kubectl('--namespace', 'union-csi', 'rollout', 'status', '--timeout=180s', 'deployment/union-csi-controller');
    await stillRuns();
  });

  it('goes on while kubelet is restarted', async () => {
    const before = await onNode('node-1', 'pgrep -x kubelet');
    await onNode('node-1', 'kill -9 $(pgrep -x kubelet)');
    await eventually('a new kubelet', async () => (await onNode('node-1', 'pgrep -x kubelet || true')) !== before);
    // It knows its pods again.
    const answers = async () => (await run('kubectl', ['exec', 'load', '--', 'ls', '/data'])).code === 0;
    await eventually('a kubelet that answers', answers, 60_000);
    await stillRuns();
  });

  it('goes on when a branch is added, which is used at once', async () => {
    await output(UNION_PLUGIN, ['add-branch', 'load', '--class', 'shared', '--size', '100Mi']);
    const names = Array.from({ length: 40 }, (_, index) => `f${index}`);
    const used = async () => {
      const found = await union<{ copies: { branch: string }[] }[]>('where', 'load', ...names).catch(() => []);
      return found.some(({ copies }) => copies.some(({ branch }) => branch === 'b3'));
    };
    await eventually('files on the added branch', used, 90_000);
    await stillRuns();
  });

  it('goes on when its server is killed: kubelet starts the next one', async () => {
    const restarts = async () => (await server())?.status?.containerStatuses?.[0]?.restartCount ?? 0;
    const before = await restarts();
    await onNode('node-1', KILL_SERVER);
    await eventually('a server that was started again', async () => (await restarts()) > before, 60_000);
    await stillRuns();
  });

  it('goes on when the node plugin is killed, and a server after it', async () => {
    const plugin = async () => {
      const pods = await list<Pod>('pods', ...PLUGINS, '--field-selector', 'spec.nodeName=node-1');
      return pods[0]?.status?.containerStatuses?.[0];
    };
    const before = (await plugin())?.restartCount ?? 0;
    await onNode('node-1', `kill -9 $(pgrep -f '[c]li.* node --node-name' | head -n 1)`);
    const isBack = async () => ((await plugin())?.restartCount ?? 0) > before && (await plugin())?.ready === true;
    await eventually('a node plugin that is ready again', isBack, 60_000);
    await stillRuns();
    // Kubelet would now let it wait: another pod is made in its place, as it is none that dies early.
    const served = async () => {
      const startedAt = (await server())?.status?.containerStatuses?.[0]?.state?.running?.startedAt;
      return startedAt !== undefined && Date.now() - Date.parse(startedAt) > STEADY_MS + 2000;
    };
    await eventually('a server that has served for a while', served, 60_000);
    const killed = (await server())!.metadata.uid;
    await onNode('node-1', KILL_SERVER);
    const isAnother = async () => (await servers()).some(({ metadata }) => metadata.uid !== killed);
    await eventually('another server pod', isAnother, 60_000);
    await stillRuns();
  });

  /** Deletes the server's pod and waits until another one is alone. */
  const replaceServer = async (...how: readonly string[]) => {
    const { metadata } = (await server())!;
    await kubectl('--namespace', 'union-csi', 'delete', 'pod', metadata.name, '--wait=false', ...how);
    const isReplaced = async () => {
      const [now, ...others] = await servers();
      return others.length === 0 && now?.metadata.uid !== metadata.uid && now?.status?.phase === 'Running';
    };
    await eventually('another server pod', isReplaced, 90_000);
  };

  it('goes on when somebody deletes its server pod, which makes way for another one', async () => {
    await replaceServer();
    await stillRuns();
  });

  it('goes on when somebody deletes that one by force', async () => {
    await replaceServer('--force', '--grace-period=0');
    await stillRuns();
  });

  it('has not failed once', async () => {
    await kubectl('exec', 'load', '--', 'touch', 'stop');
    const rounds = Number.parseInt(await ended('load'), 10);
    expect(rounds).to.be.greaterThan(100);
  });

  it('works on another node afterwards', async () => {
    await deleted('pod', 'load');
    await gone(60_000, 'volumeattachments');
    await apply(pod({ name: 'load', claim: 'load', script: 'ls stop; rm stop; ls | wc -l', node: 'node-2' }));
    expect(await ended('load')).to.match(/^stop\n\d+\n$/);
    await deleted('pod', 'load');
  });
});

describe('a node that is drained', () => {
  const nodeOf = async () => (await podOf('app'))?.spec?.nodeName as NodeName;
  const drain = (node: NodeName, ...args: readonly string[]) =>
    run('kubectl', ['drain', node, '--ignore-daemonsets', '--delete-emptydir-data', ...args]);

  it('lets go of its union, and another node takes it; a server that goes first makes way for another one', async () => {
    // Of a load that fails once the container starts anew, and says so.
    const script = `echo $HOSTNAME >> hosts; ${CHECKED_LOAD}`;
    await apply(workload('Deployment', { name: 'app', claim: 'load', script }));
    await kubectl('rollout', 'status', '--timeout=120s', 'deployment/app');
    const first = await nodeOf();
    const servers = await drain(first, '--timeout=90s', '--pod-selector=app.kubernetes.io/name=union-csi-server');
    expect(servers.code, servers.stderr).to.equal(0);
    expect((await kubectl('exec', 'deployment/app', '--', 'wc', '-l', '/data/hosts')).trim()).to.match(/^1 /);
    const all = await drain(first, '--timeout=150s');
    expect(all.code, all.stderr).to.equal(0);
    await kubectl('rollout', 'status', '--timeout=120s', 'deployment/app');
    expect(await nodeOf()).not.to.equal(first);
    expect((await kubectl('exec', 'deployment/app', '--', 'wc', '-l', 'hosts')).trim()).to.equal('2 hosts');
    const attachments = await list<UnionAttachment>('unionattachments');
    expect(attachments.map(({ spec: { node } }) => node)).to.deep.equal([await nodeOf()]);
    await kubectl('uncordon', first);
  });

  it('and so when the pods that use it go first', async () => {
    const second = await nodeOf();
    const users = await drain(second, '--timeout=100s', '--pod-selector=app=app');
    expect(users.code, users.stderr).to.equal(0);
    await kubectl('rollout', 'status', '--timeout=120s', 'deployment/app');
    const all = await drain(second, '--timeout=60s');
    expect(all.code, all.stderr).to.equal(0);
    expect((await kubectl('exec', 'deployment/app', '--', 'wc', '-l', 'hosts')).trim()).to.equal('3 hosts');
    await kubectl('uncordon', second);
  });

  it('and leaves nothing', async () => {
    await deleted('deployment', 'app', '--cascade=foreground');
    await deleted('pvc', 'load');
    await gone(60_000, 'unionvolumes');
  });
});
