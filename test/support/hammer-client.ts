/**
 * A program for tests: random operations in a directory that other clients work in too, for some time. Its arguments are
 * the directory, a seed and milliseconds. It ends with 1 and says why when an operation fails in a way that no order of
 * the clients' operations explains, or a file's content is not what was written to it.
 */
import {
  closeSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { RENAME_EXCHANGE, renameWith } from './posix.ts';

const [root = '', seedText = '1', durationText = '5000'] = process.argv.slice(2);
const until = performance.now() + Number(durationText);
let state = Number(seedText) >>> 0 || 1;

/** An integer below `limit`; xorshift. */
function random(limit: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

const directories = ['', 'd0', 'd1', 'd0/e0', 'd0/e1', 'd1/e0', 'd0/e0/f0'];
const directory = () => `${root}/${directories[random(directories.length)]}`;
/** Not the root, which is a mountpoint. */
const inner = () => `${root}/${directories[1 + random(directories.length - 1)]}`;
const file = () => `${directory()}/file${random(6)}`;
/** Everything ever written is one line of this shape. */
const content = () => `${'x'.repeat(random(3000))}\n`;
const isContent = (text: string) => /^(x*\n)?$/.test(text);

function check(text: string, path: string): void {
  if (!isContent(text)) throw new Error(`${path} has what nobody wrote: ${JSON.stringify(text.slice(0, 80))}`);
}

/**
 * What a file has, as much as its size says. While the one write(2) that fills it is on its way, Linux answers fstat with the
 * server's size, which is ahead of the size that it reads by (FUSE_I_SIZE_UNSTABLE): then the read is repeated.
 */
function readWhole(descriptor: number, path: string): string {
  const { size } = fstatSync(descriptor);
  const buffer = Buffer.alloc(size);
  const end = performance.now() + 20_000;
  for (;;) {
    const got = readSync(descriptor, buffer, 0, size, 0);
    if (got === size) return buffer.toString('latin1');
    if (performance.now() > end) throw new Error(`${path}: ${got} of ${size} bytes can be read`);
  }
}

const operations: (() => void)[] = [
  () => {
    const descriptor = openSync(file(), 'wx');
    writeSync(descriptor, content());
    if (random(4) === 0) fstatSync(descriptor);
    closeSync(descriptor);
  },
  () => renameSync(file(), file()),
  () => renameSync(file(), file()),
  () => linkSync(file(), file()),
  () => unlinkSync(file()),
  () => {
    const path = file();
    check(readFileSync(path, 'latin1'), path);
  },
  () => {
    // Across whatever happens to its name meanwhile.
    const path = file();
    const descriptor = openSync(path, 'r+');
    try {
      if (random(2) === 0) unlinkSync(path);
      check(readWhole(descriptor, path), path);
    } finally {
      closeSync(descriptor);
    }
  },
  () => void readdirSync(directory()),
  () => void lstatSync(file()),
  () => void lstatSync(directory()),
  () => mkdirSync(inner()),
  () => mkdirSync(inner()),
  () => rmdirSync(inner()),
  () => renameSync(inner(), inner()),
  () => renameWith(RENAME_EXCHANGE, random(2) === 0 ? file() : inner(), random(2) === 0 ? file() : inner()),
];

/** What another client may have caused by being faster; EPERM is a link to what has become a directory. */
const explained = new Set(['EPERM', 'ENOENT', 'EEXIST', 'ENOTEMPTY', 'EINVAL', 'ENOTDIR', 'EISDIR', 'EBUSY']);

let done = 0;
while (performance.now() < until) {
  const operation = operations[random(operations.length)]!;
  try {
    operation();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || !explained.has(code)) {
      console.error(`${operation}: ${error}`);
      process.exit(1);
    }
  }
  done++;
}
console.log(done);
