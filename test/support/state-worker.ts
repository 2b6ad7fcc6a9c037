/** Threads that share state memory with a test, as readers do. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { State } from '../../fuse/inode/state.ts';

export interface WorkerTask {
  /** Statements; `state` is the memory, `workerData` has the data. */
  readonly body: string;
  readonly thread: number;
  readonly data?: object;
}

export function startWorker(state: State, { body, thread, data = {} }: WorkerTask): Worker {
  const at = (path: string) => JSON.stringify(new URL(`../../${path}`, import.meta.url).href);
  const program = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { WORD } from ${at('fuse/inode/layout.ts')};
    import { State } from ${at('fuse/inode/state.ts')};
    import { InodeTable } from ${at('fuse/inode/inode-table.ts')};
    import { HandleTable } from ${at('fuse/inode/handle-table.ts')};
    import { checkLockOrder } from ${at('test/support/lock-order.ts')};
    const state = State.attach(workerData.fd, ${thread});
    ${body}
    parentPort.postMessage('done');`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(program)}`);
  return new Worker(url, { workerData: { fd: state.fd, ...data } });
}

/** Runs it to its end, and rejects with what it throws. */
export async function runInWorker(state: State, task: WorkerTask): Promise<void> {
  const worker = startWorker(state, task);
  await once(worker, 'message');
  await worker.terminate();
}
