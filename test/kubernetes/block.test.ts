/**
 * deploy/overlays/block-engine as it is: a union over volumes that two nodes keep each, under a load that checks itself, and the
 * node that leads one of them loses its power, and never comes back.
 */
import { join } from 'node:path';
import { expect } from 'chai';
import type { BlockPool, BlockVolume } from '../../src/protocol/block-resources.ts';
import type { CoreEvent, Node, PersistentVolumeClaim } from '../../src/protocol/objects.ts';
import { eventually } from '../support/eventually.ts';
import { nothingIsLeft } from './support/deploy.ts';
import { apply, get, gone, kubectl, list, run } from './support/kubectl.ts';
import { NODES, type NodeName, onNode, pullThePlug } from './support/nodes.ts';
import { deleted, ended, pod, running } from './support/workloads.ts';

const root = join(import.meta.dirname, '../..');
const OVERLAY = join(root, 'deploy/overlays/block-engine');
const example = (name: string) => join(root, 'examples/replicated', name);

/** Every file and its sum are safe before the next one is written. */
const DURABLE_LOAD = `
  mkdir files
  n=0
  until [ -e stop ]; do
    n=$((n + 1))
    head -c 20000 /dev/urandom | dd of=files/$n conv=fsync 2>/dev/null
    sha256sum files/$n | dd of=sums oflag=append conv=notrunc,fsync 2>/dev/null
    echo $n > round
  done
  echo $n`;

/** Half of it is in the page cache of the device when the pod ends. */
const DEVICE_LOAD = `
  head -c 4194304 /dev/urandom >/tmp/sent
  dd if=/tmp/sent of=/dev/data bs=4096 count=512 seek=4096 oflag=direct 2>/dev/null
  dd if=/tmp/sent of=/dev/data bs=4096 skip=512 seek=4608 2>/dev/null
  sha256sum </tmp/sent`;
const DEVICE_SUM = 'dd if=/dev/data bs=4096 skip=4096 count=1024 iflag=direct 2>/dev/null | sha256sum';

/** A process of each serves what is attached to a node. */
const BOTH = ['daemonset/union-csi-block-node', 'daemonset/union-csi-block-keeper'];

async function rolledOut(kind: string): Promise<void> {
  await kubectl('--namespace', 'union-csi', 'rollout', 'status', '--timeout=180s', kind);
}

describe('the block engine', () => {
  /** Of the load. */
  let node: NodeName;
  let victim: NodeName;
  const volumes = () => list<BlockVolume>('blockvolumes');
  const round = async () => Number((await run('kubectl', ['exec', 'writer', '--', 'cat', '/data/round'])).stdout);
  const goesOn = async (limitMs: number) => {
    const reached = await round();
    await eventually('a load that goes on', async () => (await round()) > reached + 5, limitMs);
  };

  // A node that is lost tells no more.
  before(nothingIsLeft);

  it('is installed beside the unions’ driver', async () => {
    await kubectl('apply', '--kustomize', OVERLAY);
    await kubectl('apply', '--kustomize', OVERLAY, '--dry-run=server');
    for (const kind of ['deployment/union-csi-block-controller', ...BOTH]) await rolledOut(kind);
    const nodes = await list<Node>('nodes');
    const pools = async () => (await list<BlockPool>('blockpools')).filter(({ status }) => status !== undefined);
    await eventually('a pool on every node', async () => (await pools()).length === nodes.length, 180_000);
  });

  it('gives pods a bare device, the same on every node, which grows while one of them has it', async () => {
    await kubectl('apply', '-f', example('1-lower-class.yaml'), '-f', join(root, 'examples/device.yaml'));
    await running('disk', 180_000);
    const firstLine = async () => (await run('kubectl', ['logs', 'disk'])).stdout.trim();
    expect(await eventually('what the pod reads', firstLine, 60_000)).to.match(/^mine, since /);
    await deleted('pod', 'disk');
    const use = { claim: 'disk', isDevice: true };
    const grown = `until [ $(blockdev --getsize64 /dev/data) = ${192 * 1024 ** 2} ]; do sleep 1; done`;
    await apply(pod({ ...use, name: 'writes', node: NODES[0], script: `${grown}; ${DEVICE_LOAD}` }));
    await running('writes', 180_000);
    await kubectl('patch', 'pvc', 'disk', '--patch', '{"spec":{"resources":{"requests":{"storage":"192Mi"}}}}');
    const sent = await ended('writes', 180_000);
    await deleted('pod', 'writes');
    const look = `${DEVICE_SUM}; ! echo mistaken | dd of=/dev/data 2>/dev/null`;
    await apply(pod({ ...use, name: 'reads', node: NODES[1], script: look, readOnly: true }));
    expect(await ended('reads')).to.equal(sent);
    await deleted('pod', 'reads');
    await deleted('pvc', 'disk');
    await gone(60_000, 'blockvolumes');
  });

  it('carries a union of volumes that are on two nodes each', async () => {
    await kubectl('apply', '-f', example('1-lower-class.yaml'), '-f', example('2-union.yaml'));
    const phase = async () => (await get<PersistentVolumeClaim>('pvc', 'precious'))?.status?.phase;
    await eventually('a bound claim', async () => (await phase()) === 'Bound', 120_000);
    const members = (await volumes()).map(({ spec }) => spec.members);
    expect(members.map(({ length }) => length)).to.deep.equal([2, 2, 2]);
    // Whoever leads the first volume is another node than that of the load.
    node = NODES.find((name) => !members[0]!.includes(name))!;
    await apply(pod({ name: 'writer', claim: 'precious', script: DURABLE_LOAD, node }));
    await running('writer', 180_000);
    await eventually('files', async () => (await round()) > 10, 60_000);
  });

  it('goes on when all pods that serve the volumes are replaced, one after the other and both of a node at once', async () => {
    for (const kind of BOTH) {
      await kubectl('--namespace', 'union-csi', 'rollout', 'restart', kind);
      await rolledOut(kind);
      await goesOn(60_000);
    }
    const there = ['--field-selector', `spec.nodeName=${node}`];
    const names = 'app.kubernetes.io/name in (union-csi-block-node,union-csi-block-keeper)';
    await kubectl('--namespace', 'union-csi', 'delete', 'pods', '--selector', names, ...there, '--timeout=120s');
    for (const kind of BOTH) await rolledOut(kind);
    await goesOn(60_000);
  });

  it('goes on when either of their containers on a node is killed', async () => {
    const count = async (socket: string) =>
      Number(await onNode(node, `pgrep -fc '[c]li.js block-attach.*/${socket}.sock' || true`));
    for (const command of ['block-node', 'block-keeper']) {
      const isKept = async () => (await count('node')) === 3 && (await count('keeper')) === 3;
      await eventually('a process of each volume in both', isKept, 60_000);
      await goesOn(60_000);
      await onNode(node, `pkill -9 -f '[c]li.js ${command} '`);
      await goesOn(60_000);
    }
    // The next node that goes is not to have the last replica in sync.
    const isWhole = async () => (await volumes()).every(({ status }) => status?.config?.inSync.length === 2);
    await eventually('all replicas in sync', isWhole, 60_000);
  });

  it('goes on when the node that leads one of them loses its power', async () => {
    victim = (await volumes())[0]!.status!.config!.primary as NodeName;
    pullThePlug(victim);
    await goesOn(120_000);
    const withoutIt = async () =>
      (await volumes()).every(({ status }) => {
        const { primary = victim, inSync = [] } = status?.config ?? {};
        return primary !== victim && !inSync.includes(victim);
      });
    await eventually('volumes that go on without it', withoutIt, 60_000);
    await goesOn(60_000);
  });

  it('makes the replicas of the node elsewhere when the cluster has forgotten it, under that load', async () => {
    await deleted('node', victim);
    const isWhole = ({ spec, status }: BlockVolume) => {
      const { inSync = [] } = status?.config ?? {};
      return status?.phase === 'Ready' && inSync.length === 2 && !spec.members.includes(victim);
    };
    await eventually('volumes that are whole without it', async () => (await volumes()).every(isWhole), 180_000);
    await goesOn(60_000);
  });

  it('has every file afterwards', async () => {
    await kubectl('exec', 'writer', '--', 'touch', '/data/stop');
    const written = (await ended('writer')).trim();
    await deleted('pod', 'writer');
    await apply(pod({ name: 'reader', claim: 'precious', script: 'sha256sum -c sums | grep -c OK; ls files | wc -l' }));
    expect((await ended('reader', 180_000)).trim().split('\n')).to.deep.equal([written, written]);
  });

  it('says in one event what it says again, as when somebody took it from its status', async () => {
    const { name } = (await volumes())[0]!.metadata;
    const saidAgain = async () => {
      const nothing = ['--subresource=status', '--type=merge', '--patch', '{"status":{"conditions":null}}'];
      await kubectl('patch', 'blockvolume', name, ...nothing);
      const events = await list<CoreEvent>('events', '--field-selector', `involvedObject.name=${name}`);
      return events.some(({ count }) => count !== undefined && count > 1);
    };
    await eventually('an event that is counted', saidAgain, 60_000);
  });

  it('leaves nothing', async () => {
    await deleted('pod', 'reader');
    await deleted('pvc', 'precious');
    await gone(120_000, 'unionvolumes');
    await gone(60_000, 'blockvolumes');
  });
});
