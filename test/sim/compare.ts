/** After everything has settled: all replicas hold the same content, zeros included (I8), and their tables vouch for it. */
import { decisions } from '../../src/block/decisions.ts';
import { Store } from '../../src/block/store.ts';
import type { Task } from '../../src/block/tasks.ts';
import type { Lsn } from '../../src/block/units.ts';
import { readValue } from './client.ts';
import type { SimNode } from './node.ts';
import { Violation } from './oracle.ts';
import { runTask } from './run-task.ts';
import type { World } from './world.ts';

interface Found {
  readonly node: SimNode;
  readonly durable: Lsn;
  readonly contents: ReadonlyMap<number, number>;
}

export function compareReplicas(world: World): void {
  const { members } = world.store.config;
  const nodes = world.nodes.filter(({ id }) => members.includes(id));
  const found = nodes.flatMap((node) => recovered(node, world) ?? []);
  const reference = found.find(({ node }) => node.intact) ?? found[0];
  for (const { node, durable, contents } of found) {
    if (durable !== reference!.durable) {
      // The end of a log that was damaged after it was written looks torn; only a peer knows better.
      if (!node.intact) continue;
      throw new Violation(
        `${node.id} is in sync and ends at ${durable}, ${reference!.node.id} at ${reference!.durable}`,
      );
    }
    for (const [lba, value] of contents) {
      const expected = reference!.contents.get(lba);
      if (expected === undefined || value === expected) continue;
      throw new Violation(`block ${lba} is ${expected} on ${reference!.node.id} and ${value} on ${node.id}`);
    }
  }
}

/** What a recovery finds on a replica's disk after power loss; undefined when its disk has lied and refuses. */
function recovered(node: SimNode, world: World): Found | undefined {
  node.disk.losePower();
  node.disk.heal();
  const store = new Store(node.options.identity, decisions);
  const contents = new Map<number, number>();
  runTask(node.disk, read());
  if (store.usable) return { node, durable: store.durable.lsn, contents };
  if (node.intact) throw new Violation(`${node.id} is in sync and cannot be recovered`);
  return undefined;

  function* read(): Task {
    const opening = yield* store.open();
    if (!opening.ok || !store.usable) return;
    for (const lba of world.plan.hot) {
      for (let block = lba; block < Math.min(lba + 5, world.client.size); block++) {
        const data = yield* store.read(block, 1);
        // A lie may still sleep on a disk that has told one; a read would find it and the replica would be rebuilt.
        if (data !== undefined) contents.set(block, readValue(data, block));
        else if (node.intact)
          throw new Violation(`block ${block} of ${node.id} is damaged although its disk never lied`);
      }
    }
  }
}
