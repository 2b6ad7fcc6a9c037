/** What containers wrote, for `kubectl logs`. Lines carry no times: the files are what the processes wrote, byte for byte. */
import { createReadStream, existsSync, readFileSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import type { LogRequest, ReadLog } from '../api-server/pod-log.ts';
import { StoreError } from '../api-server/store-error.ts';
import { latestRun } from './container.ts';
import { containerDirectory, logFile } from './layout.ts';

/** `kubeletDir` tells a node's. */
export function createLogReader(kubeletDir: (node: string) => string): ReadLog {
  return (request, signal) => readLog(kubeletDir(request.node), request, signal);
}

async function* readLog(kubeletDir: string, request: LogRequest, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const { namespace, pod, podUid, container } = request;
  const directory = containerDirectory(kubeletDir, podUid, container);
  const latest = latestRun(directory)?.restart;
  const restart = request.previous ? (latest ?? 0) - 1 : latest;
  const path = logFile(kubeletDir, { namespace, pod, uid: podUid, container, restart: restart ?? 0 });
  if (restart === undefined || !existsSync(path)) {
    const what = request.previous ? 'previous terminated container' : 'container';
    const message = `${what} "${container}" in pod "${pod}" is waiting to start or has not been started`;
    throw new StoreError(400, 'BadRequest', message);
  }
  let offset = request.tailLines === undefined ? 0 : startOfTail(readFileSync(path), request.tailLines);
  const changed = request.follow ? changes(path, directory, signal) : undefined;
  try {
    for (;;) {
      const over =
        !request.follow || latestRun(directory)?.kind === 'exited' || latestRun(directory)?.restart !== restart;
      const size = statSync(path).size;
      if (size > offset) {
        for await (const chunk of createReadStream(path, { start: offset, end: size - 1 })) yield chunk;
        offset = size;
      }
      if (over || signal.aborted) return;
      await changed?.next();
    }
  } finally {
    changed?.close();
  }
}

/** Offset of the last `count` lines. */
function startOfTail(content: Buffer, count: number): number {
  if (count === 0) return content.length;
  let position = content.length - (content.at(-1) === 0x0a ? 1 : 0);
  for (let lines = 0; lines < count; lines++) {
    const newline = content.lastIndexOf(0x0a, position - 1);
    if (position <= 0 || newline < 0) return 0;
    position = newline;
  }
  return position + 1;
}

/** `next` resolves when the file or the container's runs changed since it last did, or the signal aborted. */
function changes(path: string, directory: string, signal: AbortSignal): { next(): Promise<void>; close(): void } {
  let gate = Promise.withResolvers<void>();
  const wake = () => gate.resolve();
  const run = latestRun(directory)?.directory;
  const watchers = [path, directory, ...(run === undefined ? [] : [run])].map((each) => watch(each, wake));
  signal.addEventListener('abort', wake, { once: true });
  return {
    async next() {
      await gate.promise;
      gate = Promise.withResolvers<void>();
      if (signal.aborted) gate.resolve();
    },
    close() {
      for (const watcher of watchers) watcher.close();
      signal.removeEventListener('abort', wake);
    },
  };
}

/** Where a node's kubelet keeps its things in a cluster's directory. */
export function kubeletDirectory(clusterDir: string, node: string): string {
  return join(clusterDir, 'nodes', node, 'kubelet');
}
