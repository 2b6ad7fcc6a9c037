/**
 * A program for tests: moves the files of a union from branch to branch, for some time. Its arguments are the mountpoint, a
 * seed, the branches in JSON, and milliseconds. It prints how often; files that are renamed or removed meanwhile are let be.
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
while (performance.now() < until) {
  try {
    const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    for (let turn = 0; turn < 10 && files.length > 0; turn++) {
      const { parentPath, name } = files[random(files.length)]!;
      moves += move(join(parentPath, name), branches[random(branches.length)]!);
    }
  } catch (error) {
    if (!LET_BE.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
console.log(moves);

function move(path: string, branch: string): number {
  try {
    setXattr(path, 'trusted.union.branch', branch);
    return 1;
  } catch (error) {
    if (!LET_BE.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    return 0;
  }
}
