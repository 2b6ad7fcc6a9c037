/** After everything has settled: all replicas hold the same content, zeros included (I8), and their tables vouch for it. */
import { decisions } from '../../src/block/decisions.ts';
import type { DiskOperation } from '../../src/block/ports.ts';
import { Store } from '../../src/block/store.ts';
import { type Task, Tasks } from '../../src/block/tasks.ts';
import { readValue } from './client.ts';
import type { SimNode } from './node.ts';
import { Violation } from './oracle.ts';
import type { World } from './world.ts';

export function compareReplicas(world: World): void {
  const contents = world.nodes.map((node) => contentsOf(node, world));
  const reference = Math.max(
    world.nodes.findIndex((node) => node.intact),
    0,
  );
  for (const [index, content] of contents.entries()) {
    for (const [lba, value] of content) {
      const expected = contents[reference]!.get(lba);
      if (expected === undefined || value === expected) continue;
      throw new Violation(`block ${lba} is ${expected} on node-${reference} and ${value} on node-${index}`);
    }
  }
}

/** Reads a replica's disk as a recovery would find it. */
function contentsOf(node: SimNode, world: World): ReadonlyMap<number, number> {
  node.disk.losePower();
  node.disk.heal();
  const store = new Store(node.options.identity, decisions);
  const contents = new Map<number, number>();
  runNow(node, read());
  return contents;

  function* read(): Task {
    const opening = yield* store.open();
    if (!opening.ok || !store.usable) {
      if (node.intact) throw new Violation(`${node.id} is in sync and cannot be recovered`);
      return;
    }
    for (const lba of world.plan.hot) {
      for (let block = lba; block < Math.min(lba + 5, world.plan.blocks); block++) {
        const data = yield* store.read(block, 1);
        // A lie may still sleep on a disk that has told one; a read would find it and the replica would be rebuilt.
        if (data !== undefined) contents.set(block, readValue(data, block));
        else if (node.intact)
          throw new Violation(`block ${block} of ${node.id} is damaged although its disk never lied`);
      }
    }
  }
}

function runNow(node: SimNode, task: Task): void {
  const issued: { id: number; operation: DiskOperation }[] = [];
  const tasks = new Tasks(
    (id, operation) => issued.push({ id, operation }),
    (reason) => {
      throw new Violation(reason);
    },
  );
  tasks.start(task);
  for (let next = issued.shift(); next !== undefined; next = issued.shift()) {
    tasks.complete(next.id, node.disk.finish(next.operation));
    tasks.poll();
  }
}
