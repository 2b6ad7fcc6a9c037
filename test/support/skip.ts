/**
 * Skipping loudly: a test that cannot run here says why, and the reporter repeats it in the summary.
 *
 * Call from a `before` hook or a test: `before(function () { needs(this, root, fuse) })`.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import Mocha from 'mocha';

/** A condition for tests: undefined when it holds, else why it does not. */
export type Need = () => string | undefined;

/** Skips the suite (or test) with the reason of the first need that does not hold. */
export function needs(context: Mocha.Context, ...list: readonly Need[]): void {
  for (const need of list) {
    const reason = need();
    if (reason === undefined) continue;
    const subject = context.test instanceof Mocha.Test ? context.test : context.test?.parent;
    if (subject) subject.title += ` [skipped: ${reason}]`;
    context.skip();
  }
}

export const root: Need = () => (process.getuid?.() === 0 ? undefined : 'needs root');

/** Root and the FUSE device: what mounting a union takes. */
export const fuse: Need = () => root() ?? readable('/dev/fuse');

/** Root and a way to make loop devices. */
export const loop: Need = () => root() ?? readable('/dev/loop-control') ?? program('mkfs.ext4')();

/** A program in PATH. */
export function program(name: string): Need {
  return () => {
    const { status } = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', name], { stdio: 'ignore' });
    return status === 0 ? undefined : `needs the program ${name}`;
  };
}

function readable(path: string): string | undefined {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return `needs ${path}`;
  }
}
