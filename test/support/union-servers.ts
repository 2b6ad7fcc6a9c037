/** Servers of null unions (null-union.ts), where a server pod's process would be: in the test's process, or one to be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMounted } from '../../fuse/index.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { DescriptorServer } from '../../src/host/descriptor-server.ts';
import { FedBranches } from '../../src/host/fed-branches.ts';
import { UnionServer } from '../../src/host/union-server.ts';
import { nullUnion } from './null-union.ts';

export interface InProcessServer {
  state(): Promise<string>;
  close(): Promise<void>;
}

/** What a server cannot do: open its branches, or go on with what another one left. */
export interface Inability {
  readonly failure?: string;
  readonly unfit?: string;
}

/** The server pod's process, but in ours; its FUSE requests are answered off the main thread. */
export function startServer(path: string, volumeId: string, { failure, unfit }: Inability = {}): InProcessServer {
  mkdirSync(join(path, '..'), { recursive: true });
  const union = new UnionServer({
    volumeId,
    open: (options) => {
      if (failure !== undefined) throw new Error(failure);
      const isUsed = options.state !== undefined && fstatSync(options.state).size > 0;
      if (unfit !== undefined && isUsed) throw new Error(unfit);
      return nullUnion(options);
    },
    fed: new FedBranches(join(path, '../branches')),
    unreadable: () => undefined,
    isMounted,
    die: () => {},
    log: silentLogger,
  });
  const socket = new DescriptorServer({
    path,
    log: silentLogger,
    handle: (request, signal) => union.handle(request, signal),
  });
  const state = async () => {
    const answer = await union.handle({ message: { op: 'status' }, descriptors: [] }, AbortSignal.timeout(1_000));
    return 'state' in answer ? answer.state : 'none';
  };
  return {
    state,
    close: async () => {
      await union.idle();
      await socket.close();
      await union.close();
    },
  };
}

/** A server that can be killed. */
export async function spawnServer(path: string, volumeId: string): Promise<ChildProcess> {
  mkdirSync(join(path, '..'), { recursive: true });
  const script = fileURLToPath(new URL('./null-server.ts', import.meta.url));
  const child = spawn(process.execPath, [script, path, volumeId], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}
