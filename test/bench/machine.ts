/**
 * What the benchmark does so that figures mean something on a shared machine: which CPUs its processes run on, that they go
 * before other people's work (whatever is started afterwards inherits both), and that memory is there.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, getPriority, setPriority } from 'node:os';
import { runProgram } from '../support/loop-branches.ts';

/** Before almost everything else, without keeping the kernel's own threads from their work. */
const PRECEDENCE = -15;
/** Of a session: where the kernel shares CPU time among sessions first, a process's own niceness counts within one only. */
const sessionFile = (pid: number | 'self') => `/proc/${pid}/autogroup`;

/** On CPU 0 alone, or on all. */
export function runOn(where: 'one CPU' | 'every CPU'): void {
  const list = where === 'one CPU' ? '0' : `0-${cpus().length - 1}`;
  runProgram('taskset', ['--all-tasks', '--pid', '--cpu-list', list, String(process.pid)]);
}

/**
 * Uses the memory that is free, and frees it again. A virtual machine may give it back to its host within seconds, and whoever is
 * first to use it then pays some microseconds for each page: more than it takes to fill it. At most 8 GiB.
 */
export function warmMemory(): void {
  const [, free] = /^MemFree: +(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))!;
  const bytes = Math.min(Number(free) * 1024 * 0.9, 8 * 1024 ** 3);
  (Buffer.allocUnsafeSlow(Math.floor(bytes)).fill(1).buffer as ArrayBuffer).transfer(0);
}

/** Answers how to undo it: the session may be somebody's shell. */
export function takePrecedence(): () => void {
  const own = getPriority();
  const group = sessionNiceness();
  setPriority(PRECEDENCE);
  setSessionNiceness(PRECEDENCE);
  return () => {
    setPriority(own);
    if (group !== undefined) setSessionNiceness(group);
  };
}

/** To the session that a process has begun, as to ours. */
export function giveSessionPrecedence(pid: number): void {
  const group = sessionNiceness();
  if (group !== undefined) writeFileSync(sessionFile(pid), String(group));
}

function sessionNiceness(): number | undefined {
  try {
    const [, niceness] = /nice (-?\d+)/.exec(readFileSync(sessionFile('self'), 'utf8')) ?? [];
    return niceness === undefined ? undefined : Number(niceness);
  } catch {
    return undefined; // a kernel without them
  }
}

function setSessionNiceness(niceness: number): void {
  if (sessionNiceness() !== undefined) writeFileSync(sessionFile('self'), String(niceness));
}
