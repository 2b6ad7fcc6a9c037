/** Replacement of lost replicas as the controller does it: silence as it sees it, and one compare-and-swap. */
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { ok } from '../../../src/base/result.ts';
import { LostReplicas, type LostReplicasOptions } from '../../../src/controllers/block/lost-replicas.ts';
import type { BlockConfig, BlockPool, BlockVolume } from '../../../src/protocol/block-resources.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const DELAY_MS = 600_000;
const LOOK_MS = 10_000;
const NODES = ['a', 'b', 'c', 'd'];

function poolOf(node: string, lastSeen: number): BlockPool {
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'BlockPool',
    metadata: { name: `default.${node}` },
    spec: { node, pool: 'default', directory: '/pool' },
    status: {
      ...{ capacityBytes: String(2 ** 40), peerAddress: `${node}:1`, exportAddress: `${node}:2` },
      lastSeen: new Date(lastSeen).toISOString(),
    },
  };
}

const CONFIG: BlockConfig = { version: 5, epoch: '2', primary: 'a', inSync: ['a'], members: ['a', 'b'] };

/** A volume on a and b, of which a alone is in sync, or several; four nodes, of which b says nothing any more. */
class Cluster {
  readonly clock = new FakeClock();
  readonly events: string[] = [];
  readonly signal = new AbortController().signal;
  /** By volume. */
  readonly configs = new Map([['bv-1', CONFIG]]);
  silent: readonly string[] = ['b'];
  gone: readonly string[] = [];
  tainted: readonly string[] = [];
  /** What a watch that is late still shows. */
  copy: BlockVolume | undefined;
  readonly #signs = new Map(NODES.map((node) => [node, this.clock.now()]));
  readonly lost: LostReplicas;

  constructor() {
    // As far as it is used.
    const options = {
      volumes: {
        get: async ({ name }: { name: string }) => this.volume(name),
        patchStatusMerge: async ({ name }: { name: string }, patch: { status: { config: BlockConfig } }) => {
          this.configs.set(name, patch.status.config);
          return ok(this.volume(name));
        },
      },
      volumeChanges: {
        list: () => (this.copy ? [this.copy] : [...this.configs.keys()].map((name) => this.volume(name))),
      },
      pools: { list: async () => [...this.#signs].map(([node, lastSeen]) => poolOf(node, lastSeen)) },
      nodes: { list: async () => NODES.filter((node) => !this.gone.includes(node)).map((node) => this.#node(node)) },
      recorder: { emit: async (_subject: object, { message }: { message: string }) => this.events.push(message) },
      ...{ delayMs: DELAY_MS, clock: this.clock, log: silentLogger, onRemark: () => {} },
    };
    this.lost = new LostReplicas(options as unknown as LostReplicasOptions);
  }

  get config(): BlockConfig {
    return this.configs.get('bv-1')!;
  }

  volume(name: string): BlockVolume {
    const config = this.configs.get(name)!;
    return {
      apiVersion: 'union.csi.dev/v1alpha1',
      kind: 'BlockVolume',
      metadata: { name, uid: 'u', resourceVersion: String(config.version) },
      spec: { volumeName: 'v', capacityBytes: String(2 ** 30), pool: 'default', minInSync: 1, members: ['a', 'b'] },
      status: { config },
    };
  }

  #node(name: string): object {
    const taints = this.tainted.includes(name)
      ? [{ key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' }]
      : [];
    return { metadata: { name, labels: { 'kubernetes.io/hostname': name } }, spec: { taints } };
  }

  async look(): Promise<void> {
    for (const node of NODES) if (!this.silent.includes(node)) this.#signs.set(node, this.clock.now());
    await this.lost.look(this.signal);
  }

  async lookFor(durationMs: number): Promise<void> {
    for (let passed = 0; passed < durationMs; passed += LOOK_MS) {
      await this.look();
      await this.clock.advance(LOOK_MS);
    }
  }
}

describe('LostReplicas', () => {
  it('replaces after the delay and not before, and says so meanwhile', async () => {
    const cluster = new Cluster();
    await cluster.lookFor(DELAY_MS);
    expect(cluster.config.members).to.deep.equal(['a', 'b']);
    expect(cluster.lost.remarkOn('bv-1')).to.include('the replica on b is made elsewhere');
    await cluster.look();
    expect(cluster.config).to.deep.include({ version: 6, epoch: '2', primary: 'a', inSync: ['a'] });
    expect(cluster.config.members).to.deep.equal(['a', 'c']);
    expect(cluster.lost.remarkOn('bv-1')).to.equal(undefined);
    expect(cluster.events).to.deep.equal([
      'the replica on b is replaced by one on c: b has not been heard of for 10 min',
    ]);
  });

  it('takes nobody for lost after an outage in which it could not look', async () => {
    const cluster = new Cluster();
    cluster.silent = [];
    await cluster.look();
    await cluster.clock.advance(2 * DELAY_MS);
    // The others have been faster to say that they are well again.
    cluster.silent = ['b'];
    await cluster.look();
    expect(cluster.config.members).to.deep.equal(['a', 'b']);
  });

  it('does not wait when the node has left the cluster, or has the taint', async () => {
    for (const how of ['gone', 'tainted'] as const) {
      const cluster = new Cluster();
      cluster[how] = ['b'];
      await cluster.look();
      expect(cluster.config.members).to.deep.equal(['a', 'c']);
    }
  });

  it('knows of the room that it has just taken for another volume', async () => {
    const cluster = new Cluster();
    cluster.configs.set('bv-2', CONFIG);
    cluster.gone = ['b'];
    await cluster.look();
    expect([...cluster.configs.values()].map(({ members }) => members)).to.deep.equal([
      ['a', 'c'],
      ['a', 'd'],
    ]);
  });

  it('leaves a member alone that gets in sync just before it would be replaced', async () => {
    const cluster = new Cluster();
    cluster.gone = ['b'];
    cluster.copy = cluster.volume('bv-1');
    cluster.configs.set('bv-1', { ...CONFIG, version: 6, inSync: ['a', 'b'] });
    await cluster.look();
    expect(cluster.config).to.deep.include({ version: 6, members: ['a', 'b'] });
    expect(cluster.events).to.deep.equal([]);
  });
});
