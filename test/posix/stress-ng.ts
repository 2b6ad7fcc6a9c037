/** Runs one of stress-ng's stressors on a directory and says what became of it (stress-ng 0.15, as Debian has it). */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { runProgram } from '../support/loop-branches.ts';

export type Outcome =
  | { readonly kind: 'passed' }
  /** It looked whether it can run here, and cannot. */
  | { readonly kind: 'skipped'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string };

export interface Stress {
  readonly stressor: string;
  /** As root, or as a user without any privilege. */
  readonly user: 'root' | 'nobody';
  readonly seconds: number;
}

const NOBODY = 65_534;
const WORKERS = 2;
/** What a stressor may take beyond its time to make its files and to remove them. */
const graceMs = 120_000;

/** Those that would fill a small branch otherwise. */
const sizes: Readonly<Record<string, readonly string[]>> = {
  'copy-file': ['--copy-file-bytes', '128m'],
  fallocate: ['--fallocate-bytes', '32m'],
  hdd: ['--hdd-bytes', '32m'],
  iomix: ['--iomix-bytes', '32m'],
};

/** The names in stress-ng's class `filesystem`. */
export function filesystemStressors(): readonly string[] {
  // The list is the answer to a class with a question mark.
  const answer = runProgram('stress-ng', ['--class', 'filesystem?']);
  const names = answer.slice(answer.indexOf(':') + 1).trim();
  return names.split(/\s+/);
}

/** `directory` belongs to the stress alone. */
export async function stress(directory: string, { stressor, user, seconds }: Stress): Promise<Outcome> {
  const identity =
    user === 'nobody' ? ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups', '--'] : ['--'];
  const load = [`--${stressor}`, `${WORKERS}`, '--timeout', `${seconds}`, ...(sizes[stressor] ?? [])];
  const args = [...identity, 'stress-ng', ...load, '--temp-path', directory, '--verify'];
  const child = spawn('setpriv', args, {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(seconds * 1000 + graceMs),
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return judge(output, signal ?? code);
}

/** Of what stress-ng wrote, and the code or signal that it ended with. */
export function judge(output: string, ended: number | string | null): Outcome {
  const lines = output.split('\n');
  const matching = (pattern: RegExp) => lines.filter((line) => pattern.test(line)).map(withoutPids);
  const failures = matching(/: (fail|error):/);
  const skips = matching(/skipping stress|out of system resources|not implemented/);
  if (failures.length > 0) return { kind: 'failed', reason: [...new Set(failures)].join('\n') };
  if (skips.length > 0) return { kind: 'skipped', reason: skips.join('\n') };
  if (ended !== 0) return { kind: 'failed', reason: `ended with ${ended}: ${output.slice(-2000)}` };
  return { kind: 'passed' };
}

function withoutPids(line: string): string {
  return line.replace(/^stress-ng: \w+: +\[\d+\] /, '').replace(/process \[\d+\]/, 'process');
}
