/**
 * The end of a node, for the replicated demo. The process that is a simulated node's part in block volumes is stopped in the middle of
 * what a pod writes: killed, it would be started again at once. To the others it is as dead, and when it wakes up it has
 * missed everything; killed then, it comes back as a node does that is switched on again.
 */
import { UnionError } from '../../base/errors.ts';
import { blockVolumes } from '../../embedded/api-server/kinds.ts';
import type { Store } from '../../embedded/api-server/store.ts';
import { recordedChildren } from '../../embedded/children.ts';
import type { BlockVolume } from '../../protocol/block-resources.ts';
import type { Stage } from './demos.ts';
import { readOutput } from './pod-output.ts';

const LIMIT_MS = 120_000;
/** The pod says so when it has begun. */
const BEGUN = 'first 10 files written';

export async function loseNode({ cluster, pod, progress, signal }: Stage): Promise<void> {
  const { store, dir } = cluster;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  await readOutput({ store, clusterDir: dir, pod, until: BEGUN }, limit);
  const node = busiestNode(store);
  const child = recordedChildren(dir).find(({ name }) => name === `block-${node}`);
  if (child === undefined) throw new UnionError('FAILED_PRECONDITION', `node ${node} does not run`);
  process.kill(child.pid, 'SIGSTOP');
  try {
    await progress.step(
      `${node} dies in the middle of a write`,
      () => until(store, (volume) => volume.status?.config?.primary !== node, limit),
      () => `${leaders(store).join(' and ')} lead its volumes now`,
    );
  } finally {
    process.kill(child.pid, 'SIGKILL');
  }
  await progress.step(`${node} comes back, and gets what it has missed`, () =>
    until(store, ({ spec, status }) => status?.config?.inSync.length === spec.members.length, limit),
  );
}

/** Who leads most volumes: its death is felt most. */
function busiestNode(store: Store): string {
  const led = store.list(blockVolumes).flatMap(({ status }) => status?.config?.primary ?? []);
  const count = (node: string) => led.filter((other) => other === node).length;
  return led.reduce((most, node) => (count(node) > count(most) ? node : most), led[0] ?? '');
}

function leaders(store: Store): readonly string[] {
  return [...new Set(store.list(blockVolumes).flatMap(({ status }) => status?.config?.primary ?? []))].sort();
}

/** Resolves when all volumes are so. */
async function until(store: Store, holds: (volume: BlockVolume) => boolean, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const look = () => {
      if (store.list(blockVolumes).every(holds)) resolve();
    };
    const unsubscribe = store.subscribe(blockVolumes, undefined, look);
    signal.addEventListener('abort', () => {
      unsubscribe();
      reject(signal.reason);
    });
    look();
  });
}
