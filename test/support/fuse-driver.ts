/** The filesystem's operations driven without a mount: requests are written into a context's buffer, replies read from it. */
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBranches } from '../../fuse/branch/branches.ts';
import { finishIntents } from '../../fuse/branch/intent.ts';
import { BranchTable } from '../../fuse/branch/table.ts';
import { TOTAL_BYTES } from '../../fuse/inode/layout.ts';
import { assignLostNumbers } from '../../fuse/inode/lost-numbers.ts';
import { appendBranch, makeRoot } from '../../fuse/inode/root.ts';
import { createStateMemory, State, type WordView } from '../../fuse/inode/state.ts';
import { Context } from '../../fuse/ops/context.ts';
import { operations } from '../../fuse/ops/dispatch.ts';
import { perform, resume } from '../../fuse/ops/request.ts';
import { type PolicySettings, resolvePolicies } from '../../fuse/policy/functions.ts';
import { DIRENT, direntBytes, ENTRY, IN, OP } from '../../fuse/protocol/abi.ts';
import { close, munmap } from '../../fuse/sys/libc.ts';
import { takeOver } from '../../fuse/transport/takeover.ts';
import { checkLockOrder } from './lock-order.ts';

export interface Reply {
  /** Negated errno, or the length of the body. */
  readonly result: number;
  word(offset: number): number;
}

export interface FuseDriverOptions {
  /** Number of the first branch. */
  readonly first?: number;
  readonly folder?: string;
  readonly onMoveStep?: (step: string) => void;
  readonly view?: WordView;
  /** What a dead server left, to be gone on with. */
  readonly memory?: number;
}

export class FuseDriver {
  context: Context;
  readonly paths: readonly string[];
  readonly #folder: string;
  readonly #newContext: (state: State, thread?: number) => Context;
  readonly #table: ReturnType<typeof operations>;
  readonly #others: State[] = [];
  /** Operations act with the caller's mask, which is this process's here. */
  readonly #umask = process.umask();

  constructor(
    branches: number,
    cache: 'exclusive' | 'shared' = 'exclusive',
    policies: PolicySettings = { create: 'ff', action: 'epall', search: 'ff' },
    { folder, onMoveStep, view, memory, first = 0 }: FuseDriverOptions = {},
  ) {
    this.#folder = folder ?? mkdtempSync(join(tmpdir(), 'union-driver-'));
    const ids = Array.from({ length: branches }, (_, index) => `b${first + index}`);
    this.paths = ids.map((id) => join(this.#folder, id));
    for (const path of this.paths) mkdirSync(path, { recursive: true });
    const options = this.paths.map((path, index) => ({
      id: ids[index]!,
      path,
      mode: 'RW' as const,
      minFreeSpaceBytes: 0,
    }));
    const state = checkLockOrder(State.open(memory ?? createStateMemory(), 0, view));
    const table = new BranchTable(state);
    const opened = openBranches(options, undefined);
    if (memory === undefined) {
      state.publish();
      makeRoot(state);
      finishIntents(opened);
      for (const branch of opened) appendBranch(state, table, branch);
      assignLostNumbers(state, table);
    } else {
      state.recover();
      for (const { index, root } of opened) table.setRoot(index, root);
    }
    const config = { policies: resolvePolicies(policies), passthrough: false, cache, readOnly: false } as const;
    this.#table = operations(config.policies);
    const fail = (event: string, fields = {}) => {
      throw new Error(`${event} ${JSON.stringify(fields)}`);
    };
    const log = { error: fail, warn: () => {} };
    this.#newContext = (memory, thread = 0) =>
      new Context({ state: memory, thread, device: -1, config, log, ...(onMoveStep && { onMoveStep }) });
    this.context = this.#newContext(state);
    if (memory !== undefined) takeOver(this.context);
  }

  /** From here on a successor of the server so far, as if that had just been killed. */
  restart(view?: WordView): void {
    const { base, fd } = this.context.state;
    munmap(base, TOTAL_BYTES);
    const state = checkLockOrder(State.open(fd, 0, view));
    state.recover();
    this.context = this.#newContext(state);
    takeOver(this.context);
  }

  /** Finishes what the server before had begun. */
  resume(): Reply {
    return this.#reply(resume(this.context, this.#table));
  }

  #reply(result: number): Reply {
    return { result, word: (offset) => this.context.u32[(this.context.out + offset) >>> 2]! };
  }

  /** Performs one operation; `body` is words and texts, each text with its NUL. */
  ask(opcode: number, node: number, body: readonly (number | string)[]): Reply {
    this.place(opcode, node, body);
    return this.perform();
  }

  /** Puts a request into the buffer, as the kernel does. */
  place(opcode: number, node: number, body: readonly (number | string)[]): void {
    const { u8, u32, request } = this.context;
    this.context.expectRequest();
    u32.fill(0, request >>> 2, (request >>> 2) + 64);
    u32[(request + IN.opcode) >>> 2] = opcode;
    u32[(request + IN.node) >>> 2] = node;
    u32[(request + IN.uid) >>> 2] = process.getuid?.() ?? 0;
    u32[(request + IN.gid) >>> 2] = process.getgid?.() ?? 0;
    let at = this.context.body;
    for (const part of body) {
      if (typeof part === 'number') {
        u32[at >>> 2] = part;
        at += 4;
      } else {
        const bytes = Buffer.from(`${part}\0`);
        u8.set(bytes, at);
        at += bytes.length;
      }
    }
    u32[(request + IN.length) >>> 2] = at - request;
  }

  /** Of another thread that works with the same memory. */
  otherContext(): Context {
    const state = State.attach(this.context.state.fd, 1);
    this.#others.push(state);
    return this.#newContext(state, 1);
  }

  /** Has requests go through another context as long as `act` lasts. */
  through<T>(context: Context, act: () => T): T {
    const before = this.context;
    this.context = context;
    try {
      return act();
    } finally {
      this.context = before;
    }
  }

  /** Performs the request in the buffer. */
  perform(): Reply {
    return this.#reply(perform(this.context, this.#table));
  }

  /** Node id of a name, 0 when there is none. The kernel counts a lookup. */
  lookup(parent: number, name: string): number {
    const reply = this.ask(OP.LOOKUP, parent, [name]);
    if (reply.result < 0) throw new Error(`lookup ${name}: ${reply.result}`);
    return reply.word(0);
  }

  forget(node: number, lookups = 1): void {
    this.ask(OP.FORGET, node, [lookups, 0]);
  }

  /** The names of a directory in the order of its listing, as far as 4 KiB go. */
  list(node: number): string[] {
    return this.#list(OP.READDIR, node, 0).map(({ name }) => name);
  }

  /** The same with attributes: of each name its inode number, and the node if the kernel is told it. It counts a lookup then. */
  listPlus(node: number): { readonly name: string; readonly ino: number; readonly told: number }[] {
    return this.#list(OP.READDIRPLUS, node, ENTRY.size);
  }

  #list(opcode: number, node: number, before: number): { name: string; ino: number; told: number }[] {
    const handle = this.ask(OP.OPENDIR, node, [0, 0]).word(0);
    const { result } = this.ask(opcode, node, [handle, 0, 0, 0, 4096, 0, 0, 0, 0, 0]);
    if (result < 0) throw new Error(`list: ${result}`);
    const { out, u8, u32 } = this.context;
    const entries = [];
    for (let at = out; at < out + result; ) {
      const told = u32[at >>> 2]!;
      at += before;
      const length = u32[(at + DIRENT.nameLength) >>> 2]!;
      const name = Buffer.from(u8.subarray(at + DIRENT.name, at + DIRENT.name + length)).toString();
      entries.push({ name, ino: u32[(at + DIRENT.ino) >>> 2]!, told });
      at += direntBytes(length);
    }
    this.ask(OP.RELEASEDIR, node, [handle, 0, 0, 0, 0, 0]);
    return entries.filter(({ name }) => name !== '.' && name !== '..');
  }

  mkdir(parent: number, name: string): number {
    return this.ask(OP.MKDIR, parent, [0o755, 0, name]).word(0);
  }

  close(): void {
    this.crash();
    rmSync(this.#folder, { recursive: true });
  }

  /** Ends without a word to the branches. Answers the folder that another driver can be opened on. */
  crash(): string {
    process.umask(this.#umask);
    // Also what dead servers had open.
    for (const fd of readdirSync('/proc/self/fd')) if (targetOf(fd).startsWith(this.#folder)) close(Number(fd));
    const { base, fd } = this.context.state;
    for (const mapped of [base, ...this.#others.map((state) => state.base)]) munmap(mapped, TOTAL_BYTES);
    close(fd);
    return this.#folder;
  }
}

function targetOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ''; // the one that listed them
  }
}
