/** What the server of a test's union (serve-union.ts) says of its branches. */
import { setTimeout as delay } from 'node:timers/promises';
import type { UnionMount } from './union-mount.ts';

export interface BranchHealthReport {
  readonly health: string;
  readonly message: string;
}

/** Asks the server; its answer comes with what it logs. */
export async function healthOf(union: Pick<UnionMount, 'pid' | 'output'>): Promise<readonly BranchHealthReport[]> {
  const said = union.output().length;
  process.kill(union.pid, 'SIGUSR2');
  for (;;) {
    const answer = /^status (.*)\n/m.exec(union.output().slice(said))?.[1];
    if (answer !== undefined) return (JSON.parse(answer) as { branches: BranchHealthReport[] }).branches;
    await delay(20);
  }
}
