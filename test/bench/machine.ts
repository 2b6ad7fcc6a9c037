/**
 * What the benchmark does to its own processes so that figures mean something on a shared machine: which CPUs they run on, and
 * that they go before other people's work. Whatever is started afterwards inherits both.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, getPriority, setPriority } from 'node:os';
import { runProgram } from '../support/loop-branches.ts';

/** Before almost everything else, without keeping the kernel's own threads from their work. */
const PRECEDENCE = -15;
/** Of this session: where the kernel shares CPU time among sessions first, a process's own niceness counts within one only. */
const AUTOGROUP = '/proc/self/autogroup';

/** On CPU 0 alone, or on all. */
export function runOn(where: 'one CPU' | 'every CPU'): void {
  const list = where === 'one CPU' ? '0' : `0-${cpus().length - 1}`;
  runProgram('taskset', ['--all-tasks', '--pid', '--cpu-list', list, String(process.pid)]);
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

function sessionNiceness(): number | undefined {
  try {
    const [, niceness] = /nice (-?\d+)/.exec(readFileSync(AUTOGROUP, 'utf8')) ?? [];
    return niceness === undefined ? undefined : Number(niceness);
  } catch {
    return undefined; // a kernel without them
  }
}

function setSessionNiceness(niceness: number): void {
  if (sessionNiceness() !== undefined) writeFileSync(AUTOGROUP, String(niceness));
}
