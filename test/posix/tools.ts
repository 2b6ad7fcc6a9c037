/** Finds the conformance suites, which others wrote and cargo installs. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The path of a tool in PATH or among cargo's. Throws with the command that installs it. */
export function findTool(name: string, installCommand: string): string {
  const { stdout } = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', name], { encoding: 'utf8' });
  const path = stdout.trim() || join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'bin', name);
  if (!existsSync(path)) throw new Error(`${name} is not installed; run ${installCommand}`);
  return path;
}
