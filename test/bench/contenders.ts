/**
 * The filesystems that the benchmark compares, each mounted over branches of its own and served by a process of its own.
 * A contender that is not to be had says why; it is left out of the table and named below it.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { mountpointsBelow } from '../support/loop-branches.ts';
import { mountUnion } from '../support/union-mount.ts';
import { giveSessionPrecedence } from './machine.ts';

export const contenderNames = ['native', 'mergerfs', 'fuse-native', 'null', 'least', 'union'] as const;
/** The union again, without what lets another server go on where one was killed: nobody would mount that. */
export const UNJOURNALED = 'union without journal';
export type ContenderName = (typeof contenderNames)[number] | typeof UNJOURNALED;

export interface Stage {
  readonly branches: readonly string[];
  readonly mountpoint: string;
  /** The null server's binary. */
  readonly nullServer: string;
  /** In a session of its own, as servers in the background are: where the kernel has them, sessions get CPU time by turns. */
  readonly ownSession?: boolean;
}

export interface Mounted {
  readonly mountpoint: string;
  close(): Promise<void>;
}

export interface Contender {
  readonly name: ContenderName;
  /** Undefined when it can run here. */
  missing(): string | undefined;
  mount(stage: Stage): Promise<Mounted>;
}

/**
 * mergerfs's fastest settings for this work, of those tried (README.md): everything cached that it can cache but file data, and as
 * many threads as CPUs. New files at random, as for the union: a policy that looks at free space costs it a statfs for each branch.
 */
function mergerfsOptions(): string {
  const cached = ['attr', 'entry', 'negative_entry', 'statfs'].map((kind) => `cache.${kind}=3600`);
  const create = ['category.create=rand', 'minfreespace=1M', 'security_capability=false'];
  const threads = `threads=${availableParallelism()}`;
  return ['allow_other', 'use_ino', ...create, 'cache.files=off', 'cache.readdir=true', ...cached, threads].join(',');
}

const native: Contender = {
  name: 'native',
  missing: () => undefined,
  mount: async ({ branches }) => ({ mountpoint: branches[0]!, close: async () => {} }),
};

const mergerfs: Contender = {
  name: 'mergerfs',
  missing: () => (isProgram('mergerfs') ? undefined : 'the program mergerfs is not installed'),
  mount: (stage) =>
    serve('mergerfs', ['-f', '-o', mergerfsOptions(), stage.branches.join(':'), stage.mountpoint], stage),
};

const fuseNative: Contender = {
  name: 'fuse-native',
  missing: () => {
    try {
      createRequire(import.meta.url)('fuse-native');
      return isProgram('fusermount') ? undefined : 'the program fusermount (package fuse) is not installed';
    } catch (error) {
      return `the package fuse-native does not load: ${error instanceof Error ? error.message.split('\n')[0] : error}`;
    }
  },
  mount: (stage) => {
    const server = fileURLToPath(new URL('fuse-native-union.mjs', import.meta.url));
    return serve(process.execPath, [server, stage.branches.join(':'), stage.mountpoint], stage);
  },
};

const nullServer: Contender = {
  name: 'null',
  missing: () => undefined,
  mount: (stage) => serve(stage.nullServer, [stage.mountpoint], stage),
};

const least: Contender = {
  name: 'least',
  missing: () => undefined,
  mount: (stage) => {
    const server = fileURLToPath(new URL('least.ts', import.meta.url));
    // As bin/union-csi has it.
    const environment = 'GLIBC_TUNABLES=glibc.pthread.rseq=0';
    return serve('env', [environment, process.execPath, server, stage.branches.join(':'), stage.mountpoint], stage);
  },
};

const unionOptions = ['category.create=rand', 'minfreespace=1M', 'cache=exclusive'];

async function mountOwn(stage: Stage, more: { readonly nodeOptions?: string } = {}): Promise<Mounted> {
  const { branches, mountpoint, ownSession = false } = stage;
  const mount = await mountUnion({ branches, mountpoint, options: unionOptions, ownSession, ...more });
  if (ownSession) giveSessionPrecedence(mount.pid);
  return mount;
}

const union: Contender = {
  name: 'union',
  missing: () => undefined,
  mount: (stage) => mountOwn(stage),
};

const unjournaled: Contender = {
  name: UNJOURNALED,
  missing: () => undefined,
  mount: (stage) => mountOwn(stage, { nodeOptions: `--import=${new URL('without-journal.ts', import.meta.url)}` }),
};

export const contenders: readonly Contender[] = [native, mergerfs, fuseNative, nullServer, least, union, unjournaled];

const mountDeadlineMs = 10_000;

async function serve(program: string, args: readonly string[], stage: Stage): Promise<Mounted> {
  const { mountpoint, ownSession = false } = stage;
  const server = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: ownSession });
  if (ownSession) giveSessionPrecedence(server.pid!);
  let complaint = '';
  server.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const isMounted = () => mountpointsBelow(mountpoint).length > 0;
  const deadline = Date.now() + mountDeadlineMs;
  while (!isMounted() && !hasEnded(server) && Date.now() < deadline) await delay(5);
  if (!isMounted()) {
    server.kill('SIGKILL');
    throw new Error(`${program} did not mount ${mountpoint}: ${complaint}`);
  }
  return {
    mountpoint,
    close: async () => {
      const exited = hasEnded(server) ? undefined : once(server, 'exit');
      spawnSync('umount', [mountpoint], { timeout: 10_000 });
      const giveUp = setTimeout(() => server.kill('SIGKILL'), 5000);
      await exited;
      clearTimeout(giveUp);
    },
  };
}

function hasEnded(server: ChildProcess): boolean {
  return server.exitCode !== null || server.signalCode !== null;
}

export function isProgram(name: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$1"', 'sh', name], { stdio: 'ignore' }).status === 0;
}
