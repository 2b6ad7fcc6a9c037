/**
 * The benchmark's peer: a union as one would write it in JavaScript over `fuse-native` (libfuse 2). No more than the phases of
 * metadata.c need, and no more careful: `node fuse-native-union.mjs BRANCH:BRANCH… MOUNTPOINT`, ended by SIGTERM or SIGINT.
 */
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import Fuse from 'fuse-native';

const [list, mountpoint] = process.argv.slice(2);
const branches = list.split(':');

/** The first branch that has the path, as a real path. */
function find(path) {
  for (const branch of branches) {
    const real = join(branch, path);
    if (fs.lstatSync(real, { throwIfNoEntry: false })) return real;
  }
  throw Object.assign(new Error(path), { errno: Fuse.ENOENT });
}

/** The path on a branch taken at random, with its parents made. */
function place(path) {
  const real = join(branches[Math.floor(Math.random() * branches.length)], path);
  fs.mkdirSync(dirname(real), { recursive: true });
  return real;
}

/** Each returns what libfuse is answered: an errno or a count, and a value. */
const operations = {
  getattr: (path) => [0, fs.lstatSync(find(path))],
  fgetattr: (path, fd) => [0, fd ? fs.fstatSync(fd) : fs.lstatSync(find(path))],
  readdir: (path) => [0, listing(path)],
  create: (path, mode) => [0, fs.openSync(place(path), 'wx+', mode)],
  open: (path, flags) => [0, fs.openSync(find(path), flags)],
  release: (_path, fd) => [fs.closeSync(fd) ?? 0],
  read: (_path, fd, buffer, length, position) => [fs.readSync(fd, buffer, 0, length, position)],
  write: (_path, fd, buffer, length, position) => [fs.writeSync(fd, buffer, 0, length, position)],
  truncate: (path, size) => [fs.truncateSync(find(path), size) ?? 0],
  mkdir: (path, mode) => onAll((branch) => fs.mkdirSync(join(branch, path), { recursive: true, mode })),
  rmdir: (path) => onAll((branch) => fs.rmdirSync(join(branch, path))),
  rename: (from, to) => {
    const real = find(from);
    const branch = branches.find((candidate) => real.startsWith(`${candidate}/`));
    return [fs.renameSync(real, join(branch, to)) ?? 0];
  },
  unlink: (path) => [fs.unlinkSync(find(path)) ?? 0],
};

function onAll(change) {
  for (const branch of branches) change(branch);
  return [0];
}

function listing(path) {
  const present = branches.map((branch) => join(branch, path)).filter((real) => fs.existsSync(real));
  return [...new Set(present.flatMap((real) => fs.readdirSync(real)))];
}

function handler(operation) {
  return (...args) => {
    const answer = args.pop();
    let result;
    try {
      result = operation(...args);
    } catch (error) {
      result = [error.errno ?? Fuse.EIO];
    }
    answer(...result);
  };
}

const handlers = Object.fromEntries(Object.entries(operations).map(([name, run]) => [name, handler(run)]));
const cache = { entryTimeout: 60, attrTimeout: 60, negativeTimeout: 60, kernelCache: true };
const fuse = new Fuse(mountpoint, handlers, { force: true, allowOther: true, bigWrites: true, ...cache });
fuse.mount((error) => {
  if (!error) return;
  process.stderr.write(`fuse-native: ${error.message}\n`);
  process.exit(1);
});
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => fuse.unmount(() => process.exit(0)));
}
