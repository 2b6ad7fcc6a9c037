/**
 * A program for tests: does the operations of model-filesystem.ts on a real filesystem, one for each message, and answers
 * `{ value }` or `{ code }`. Its argument is the directory that paths are relative to; a message may name another.
 */
import {
  chmodSync,
  closeSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  type Stats,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { LINK_TARGET, type Operation } from './model-filesystem.ts';
import { RENAME_EXCHANGE, RENAME_NOREPLACE, renameWith } from './posix.ts';

export type Question =
  | { readonly kind: 'do'; readonly operation: Operation }
  | { readonly kind: 'begin'; readonly root: string };
export type Answer = { readonly value: unknown } | { readonly code: string };

let root = '';
const handles = new Map<number, number>();

process.on('message', (question: Question) => process.send!(answer(question)));

function answer(question: Question): Answer {
  try {
    if (question.kind === 'do') return { value: perform(question.operation) };
    root = question.root;
    for (const descriptor of handles.values()) closeSync(descriptor);
    handles.clear();
    return { value: undefined };
  } catch (error) {
    return { code: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
}

function perform(operation: Operation): unknown {
  if ('handle' in operation) return onHandle(operation);
  const path = `${root}/${operation.path}`;
  switch (operation.op) {
    case 'mkdir':
      return mkdirSync(path, 0o755);
    case 'rmdir':
      return rmdirSync(path);
    case 'unlink':
      return unlinkSync(path);
    case 'readdir':
      return readdirSync(path).sort();
    case 'lstat':
      return describeStats(lstatSync(path));
    case 'read':
      return readFileSync(path, 'utf8');
    case 'create':
      return writeFileSync(path, operation.text, { flag: 'wx', mode: 0o644 });
    case 'symlink':
      return symlinkSync(LINK_TARGET, path);
    case 'truncate':
      return truncateSync(path, operation.size);
    case 'chmod':
      return chmodSync(path, operation.mode);
    default:
      return onTwo(operation.op, path, `${root}/${operation.to}`);
  }
}

function onTwo(op: 'rename' | 'exchange' | 'noreplace' | 'link', path: string, to: string): void {
  if (op === 'link') linkSync(path, to);
  else if (op === 'rename') renameSync(path, to);
  else renameWith(op === 'exchange' ? RENAME_EXCHANGE : RENAME_NOREPLACE, path, to);
}

function onHandle(operation: Extract<Operation, { handle: number }>): unknown {
  if (operation.op === 'open') {
    if (handles.has(operation.handle)) throw Object.assign(new Error(), { code: 'EBADF' });
    handles.set(operation.handle, openSync(`${root}/${operation.path}`, 'r+'));
    return undefined;
  }
  const descriptor = handles.get(operation.handle);
  if (descriptor === undefined) throw Object.assign(new Error(), { code: 'EBADF' });
  switch (operation.op) {
    case 'fread': {
      const buffer = Buffer.alloc(65_536);
      return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, buffer.length, 0));
    }
    case 'fstat':
      return describeStats(fstatSync(descriptor));
    case 'ftruncate':
      return ftruncateSync(descriptor, operation.size);
    case 'write':
      return void writeSync(descriptor, operation.text, operation.offset);
    case 'close':
      closeSync(descriptor);
      return void handles.delete(operation.handle);
  }
}

/** As describeNode of the model. */
function describeStats(stats: Stats): string {
  const mode = (stats.mode & 0o7777).toString(8);
  if (stats.isDirectory()) return `directory ${mode} ${stats.nlink}`;
  return `${stats.isSymbolicLink() ? 'link' : 'file'} ${mode} ${stats.nlink} ${stats.size}`;
}
