/** What a reader's thread tells the kernel's scheduler of itself, and asks it of others. Uses the context's `path` and `argument`. */
import type { Context } from '../ops/context.ts';
import { startsWith, writeText } from '../ops/scratch.ts';
import { AT_FDCWD, O_CLOEXEC } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { ownsSchedulingGroup } from './scheduling-group.ts';
import type { Manner, Surroundings } from './seat.ts';

const SCHED_OTHER = 0;
/** linux/sched.h */
const POLICIES: Readonly<Record<Manner, number>> = { ordinary: SCHED_OTHER, batch: 3, idle: 5 };
/** Longer than what the kernel writes of a thread. */
const TEXT_BYTES = 2048;
/** Of "NUMBER (NAME) STATE …", counted from the parenthesis, as names may hold spaces: in front of the last CPU. */
const SPACES_BEFORE_CPU = 37;
const [SPACE, CLOSING_PARENTHESIS, DIGIT_0] = [0x20, 0x29, 0x30];
/** The kernel's function in which callers of a FUSE filesystem sleep (fs/fuse/dev.c). */
const WAITING_IN = 'request_wait_answer';
/** Others may come to the server's scheduling group. */
const GROUP_LOOK_MS = 1_000;

export class Scheduling implements Surroundings {
  readonly #context: Context;
  /** Somebody else's choice is left alone. */
  readonly #isOrdinary = libc.schedGetscheduler(0) === SCHED_OTHER;
  #ownsGroup = false;
  #groupSeenAt = Number.NEGATIVE_INFINITY;
  /** A thread, and a descriptor of what /proc tells of it. */
  #watched = 0;
  #watchedStat = -1;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Milliseconds. */
  now(): number {
    return performance.now();
  }

  /** The calling thread stays on this CPU. */
  sitOn(cpu: number): void {
    const { u8, path, base } = this.#context;
    u8.fill(0, path, path + libc.CPU_SET_BYTES);
    u8[path + (cpu >> 3)] = 1 << (cpu & 7);
    libc.schedSetaffinity(0, libc.CPU_SET_BYTES, base + path);
  }

  /** Whether the calling thread may become SCHED_IDLE: it gets next to nothing then beside others of its scheduling group. */
  mayBeIdle(): boolean {
    if (!this.#isOrdinary) return false;
    const now = this.now();
    if (now - this.#groupSeenAt < GROUP_LOOK_MS) return this.#ownsGroup;
    this.#groupSeenAt = now;
    this.#ownsGroup = ownsSchedulingGroup();
    return this.#ownsGroup;
  }

  become(manner: Manner): void {
    if (!this.#isOrdinary) return;
    const { u32, argument, base } = this.#context;
    u32[argument >>> 2] = 0;
    libc.schedSetscheduler(0, POLICIES[manner], base + argument);
  }

  /** Whether this thread, of our PID namespace, waits for a FUSE filesystem just now. */
  waitsForAnswer(thread: number): boolean {
    return this.#read(`/proc/${thread}/wchan`) > 0 && startsWith(this.#context, this.#context.path, WAITING_IN);
  }

  /** The CPU that a thread of our PID namespace was last on, or -1. Keeps its file open for the next time, until `forget`. */
  cpuOf(thread: number): number {
    if (thread !== this.#watched) this.#watch(thread);
    const { u8, base, path } = this.#context;
    const end = path + Math.max(0, libc.pread(this.#watchedStat, base + path, TEXT_BYTES, 0));
    let at = end - 1;
    while (at > path && u8[at] !== CLOSING_PARENTHESIS) at--;
    for (let spaces = 0; spaces < SPACES_BEFORE_CPU && at < end; at++) if (u8[at] === SPACE) spaces++;
    if (at <= path || at >= end) return -1;
    let cpu = 0;
    for (; at < end && u8[at] !== SPACE; at++) cpu = cpu * 10 + u8[at]! - DIGIT_0;
    return cpu;
  }

  forget(): void {
    if (this.#watchedStat >= 0) libc.close(this.#watchedStat);
    this.#watched = 0;
    this.#watchedStat = -1;
  }

  #watch(thread: number): void {
    this.forget();
    this.#watched = thread;
    this.#watchedStat = this.#open(`/proc/${thread}/stat`);
  }

  /** Into `path`; answers the length, 0 when there is nothing. */
  #read(file: string): number {
    const { base, path } = this.#context;
    const descriptor = this.#open(file);
    if (descriptor < 0) return 0;
    const length = libc.read(descriptor, base + path, TEXT_BYTES);
    libc.close(descriptor);
    return Math.max(length, 0);
  }

  #open(file: string): number {
    const { base, path } = this.#context;
    return libc.openat(AT_FDCWD, base + writeText(this.#context, path, file), O_CLOEXEC, 0);
  }
}
