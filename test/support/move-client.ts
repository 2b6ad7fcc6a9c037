/**
 * A program for tests: moves the files of a union from branch to branch, for some time. Its arguments are the mountpoint, a
 * seed, the branches in JSON, and milliseconds. It prints how often, which is once at least; files that are renamed or removed
 * meanwhile are let be.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setXattr } from './posix.ts';

const [root = '', seedText = '1', branchesText = '[]', durationText = '5000'] = process.argv.slice(2);
const branches: string[] = JSON.parse(branchesText);
const until = performance.now() + Number(durationText);
let state = Number(seedText) >>> 0 || 1;

/** An integer below `limit`; xorshift. */
function random(limit: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

/** A file or directory went meanwhile, or became the other; or somebody has it open past the server. */
const LET_BE = ['ENOENT', 'ENOTDIR', 'EINVAL', 'EBUSY'];

let moves = 0;
while (performance.now() < until || moves === 0) {
  try {
    moves += visit(root);
  } catch (error) {
    if (!LET_BE.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
console.log(moves);

/** Goes down from a directory until it meets a file, which it moves. Answers 1 when it did. */
function visit(directory: string): number {
  const entries = readdirSync(directory, { withFileTypes: true });
  if (entries.length === 0) return 0;
  const entry = entries[random(entries.length)]!;
  const path = join(directory, entry.name);
  if (entry.isDirectory()) return visit(path);
  if (!entry.isFile()) return 0;
  setXattr(path, 'trusted.union.branch', branches[random(branches.length)]!);
  return 1;
}
