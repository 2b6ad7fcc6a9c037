/** What every role tells Prometheus, and that the dashboard asks for nothing else. */
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { LATENCY_BOUNDS_SECONDS } from '../../../fuse/index.ts';
import { registerControllerMetrics } from '../../../src/main/controller-metrics.ts';
import { registerNodeMetrics } from '../../../src/main/node-metrics.ts';
import { type MeasuredUnion, registerUnionMetrics, timedOperations } from '../../../src/main/union-metrics.ts';
import type { UnionVolume } from '../../../src/protocol/resources.ts';

const timed = LATENCY_BOUNDS_SECONDS.map(() => 0);
const union: MeasuredUnion = {
  refresh: async () => {},
  status: () => ({
    branches: [
      {
        ...{ id: 'b0', path: '/branches/b0', mode: 'RW', health: 'full', message: '' },
        ...{ totalBytes: 100, usedBytes: 60, availableBytes: 40, minFreeSpaceBytes: 50, files: 7 },
      },
    ],
    ...{
      inodes: 3,
      openHandles: 1,
      names: 5,
      indexBytes: 4096,
      requests: 30,
      moves: { underway: 0, done: 2 },
      intents: [],
    },
  }),
  measurements: () => ({
    operations: [{ operation: 'lookup', count: 21, timed: [2, 1, ...timed.slice(2), 0], seconds: 0.00005 }],
    lookedUp: { names: 20, remembered: 10, unknown: 4 },
  }),
};

async function unionMetrics(current: () => MeasuredUnion | undefined): Promise<string> {
  const registry = new Registry();
  registerUnionMetrics(registry, { volumeId: 'uv-1', current });
  return (await registry.metrics()) + timedOperations('uv-1', current()?.measurements() ?? { operations: [] });
}

describe('metrics of a server', () => {
  it('tell operations, the index and branches', async () => {
    const lines = (await unionMetrics(() => union)).split('\n');
    expect(lines).to.include.members([
      'union_csi_operations_total{operation="lookup",volume="uv-1"} 21',
      'union_csi_operation_seconds_bucket{volume="uv-1",operation="lookup",le="0.00001"} 2',
      'union_csi_operation_seconds_bucket{volume="uv-1",operation="lookup",le="0.000025"} 3',
      'union_csi_operation_seconds_bucket{volume="uv-1",operation="lookup",le="+Inf"} 3',
      'union_csi_operation_seconds_count{volume="uv-1",operation="lookup"} 3',
      'union_csi_index_misses_total{volume="uv-1"} 4',
      'union_csi_branch_used_bytes{branch="b0",volume="uv-1"} 60',
      'union_csi_branch_files{branch="b0",volume="uv-1"} 7',
      'union_csi_branch_health{branch="b0",health="full",volume="uv-1"} 1',
      'union_csi_branch_health{branch="b0",health="ok",volume="uv-1"} 0',
      'union_csi_open_handles{volume="uv-1"} 1',
    ]);
  });

  it('tell each time what is so now, and nothing of a union that is not open', async () => {
    expect(await unionMetrics(() => undefined)).not.to.match(/^union_csi_(branch|operation|inodes)\S+ [^0]/m);
    const registry = new Registry();
    registerUnionMetrics(registry, { volumeId: 'uv-1', current: () => union });
    const first = await registry.metrics();
    expect(await registry.metrics()).to.equal(first);
  });
});

async function controllerMetrics(): Promise<string> {
  const registry = new Registry();
  const spec = { claim: { namespace: 'default', name: 'data' } };
  const volume = { metadata: { name: 'uv-1' }, spec, status: { phase: 'Ready', capacityBytes: '1024' } };
  const measure = registerControllerMetrics(registry, {
    volumes: { list: () => [volume as unknown as UnionVolume] },
    attachments: { list: () => [] },
  });
  measure({ queue: 'union-volume', outcome: 'done', seconds: 0.01 });
  return await registry.metrics();
}

describe('metrics of the controller', () => {
  it('tell volumes by phase, their claims, and work', async () => {
    expect((await controllerMetrics()).split('\n')).to.include.members([
      'union_csi_volumes{phase="Ready"} 1',
      'union_csi_volumes{phase="Failed"} 0',
      'union_csi_volume_info{volume="uv-1",namespace="default",claim="data",phase="Ready"} 1',
      'union_csi_volume_capacity_bytes{volume="uv-1"} 1024',
      'union_csi_reconcile_seconds_count{kind="union-volume",outcome="done"} 1',
    ]);
  });
});

describe('metrics of a node', () => {
  it('tell servers that took over, and mounts that wait for one', async () => {
    const registry = new Registry();
    registerNodeMetrics(registry, {
      kubeletDir: '/var/lib/kubelet',
      custodian: { heldCount: 1, restarts: new Map([['uv-1', 3]]) },
    });
    for (let i = 0; i < 2; i++) {
      expect((await registry.metrics()).split('\n')).to.include.members([
        'union_csi_node_unions_held 1',
        'union_csi_node_server_restarts_total{volume="uv-1"} 3',
      ]);
    }
  });
});

describe('the dashboard', () => {
  it('asks only for what is told', async () => {
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    registerNodeMetrics(registry, {
      kubeletDir: '/var/lib/kubelet',
      custodian: { heldCount: 1, restarts: new Map([['uv-1', 3]]) },
    });
    const text = [await registry.metrics(), await controllerMetrics(), await unionMetrics(() => union)].join('\n');
    // Measured by the CSI server, wherever health is served.
    const told = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name).concat('union_csi_rpc_seconds'));
    const dashboard = readFileSync(new URL('../../../deploy/monitoring/dashboard.json', import.meta.url), 'utf8');
    const asked = [...dashboard.matchAll(/\b(?:union_csi|process)_[a-z_]+/g)].map(([name]) => name);
    expect(asked).to.have.length.greaterThan(20);
    const unknown = asked.filter((name) => !told.has(name) && !told.has(name.replace(/_(bucket|sum|count)$/, '')));
    expect(unknown).to.deep.equal([]);
  });
});
