/** What a union's server tells Prometheus: operations and how long they take, the name index, branches. */
import { Counter, Gauge, type Registry } from 'prom-client';
import { LATENCY_BOUNDS_SECONDS, type Measurements, type UnionStatus } from '../../fuse/index.ts';
import { BRANCH_HEALTHS } from '../protocol/mount-control.ts';

/** The part of fuse/index.ts's Union that is used here. */
export interface MeasuredUnion {
  refresh(): Promise<void>;
  status(): UnionStatus;
  measurements(): Measurements;
}

/** `current` is the union that is open now, if one is. Asked anew at every scrape. */
export function registerUnionMetrics(
  registry: Registry,
  { volumeId, current }: { readonly volumeId: string; readonly current: () => MeasuredUnion | undefined },
): void {
  registry.setDefaultLabels({ volume: volumeId });
  const registers = [registry];
  new Counter({
    name: 'union_csi_operations_total',
    help: 'Requests of the kernel by operation',
    labelNames: ['operation'],
    registers,
    collect() {
      this.reset();
      void current()?.refresh(); // for the next scrape: nobody waits for a branch
      for (const { operation, count } of current()?.measurements().operations ?? []) this.inc({ operation }, count);
    },
  });
  new Counter({
    name: 'union_csi_index_misses_total',
    help: 'Names for which the branches had to be asked, because the name index did not know them',
    registers,
    collect() {
      this.reset();
      this.inc(current()?.measurements().lookedUp.unknown ?? 0);
    },
  });
  const amounts = {
    inodes: ['Files that the kernel knows now', ({ inodes }: UnionStatus) => inodes],
    open_handles: ['Open files and directories', ({ openHandles }: UnionStatus) => openHandles],
    indexed_names: ['Names that the index knows', ({ names }: UnionStatus) => names],
    index_bytes: ['Memory of the name index and its tables', ({ indexBytes }: UnionStatus) => indexBytes],
  } as const;
  for (const [name, [help, amountOf]] of Object.entries(amounts)) {
    new Gauge({
      name: `union_csi_${name}`,
      help,
      registers,
      collect() {
        const status = current()?.status();
        this.reset();
        if (status) this.set(amountOf(status));
      },
    });
  }
  registerBranches(registry, () => current()?.status().branches ?? []);
}

type BranchState = UnionStatus['branches'][number];

function registerBranches(registry: Registry, branches: () => readonly BranchState[]): void {
  const amounts = {
    size_bytes: ["Size of the branch's filesystem", (branch: BranchState) => branch.totalBytes],
    used_bytes: ['Bytes in use on it', (branch: BranchState) => branch.usedBytes],
    available_bytes: ['Bytes that can still be written', (branch: BranchState) => branch.availableBytes],
    reserve_bytes: ['New files go elsewhere when less is available', (branch: BranchState) => branch.minFreeSpaceBytes],
    files: ['Inodes in use on it', (branch: BranchState) => branch.files],
  } as const;
  for (const [name, [help, amountOf]] of Object.entries(amounts)) {
    new Gauge({
      name: `union_csi_branch_${name}`,
      help,
      labelNames: ['branch'],
      registers: [registry],
      collect() {
        this.reset();
        for (const branch of branches()) this.set({ branch: branch.id }, amountOf(branch));
      },
    });
  }
  new Gauge({
    name: 'union_csi_branch_health',
    help: `1 for what the branch is: ${BRANCH_HEALTHS.join(', ')}`,
    labelNames: ['branch', 'health'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { id, health } of branches())
        for (const each of BRANCH_HEALTHS) this.set({ branch: id, health: each }, each === health ? 1 : 0);
    },
  });
}

/** A histogram that was counted elsewhere, which prom-client has no way to take over. */
export function timedOperations(volumeId: string, { operations }: Pick<Measurements, 'operations'>): string {
  const name = 'union_csi_operation_seconds';
  const lines = operations.flatMap(({ operation, timed, seconds }) => {
    const labels = `volume="${volumeId}",operation="${operation}"`;
    let below = 0;
    const buckets = timed.map((count, index) => {
      below += count;
      return `${name}_bucket{${labels},le="${LATENCY_BOUNDS_SECONDS[index] ?? '+Inf'}"} ${below}`;
    });
    return [...buckets, `${name}_sum{${labels}} ${seconds}`, `${name}_count{${labels}} ${below}`];
  });
  const help = 'Time that the server took for an operation; every seventh is timed';
  return [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`, ...lines, ''].join('\n');
}
