/** Runs a task against a virtual disk at once, operation by operation. */
import type { DiskOperation } from '../../src/block/ports.ts';
import { type Task, Tasks } from '../../src/block/tasks.ts';
import { Violation } from './oracle.ts';
import type { VirtualDisk } from './virtual-disk.ts';

export function runTask(disk: VirtualDisk, task: Task): void {
  const issued: { id: number; operation: DiskOperation }[] = [];
  const tasks = new Tasks(
    (id, operation) => issued.push({ id, operation }),
    (reason) => {
      throw new Violation(reason);
    },
  );
  tasks.start(task);
  for (let next = issued.shift(); next !== undefined; next = issued.shift()) {
    tasks.complete(next.id, disk.finish(next.operation));
    tasks.poll();
  }
}
