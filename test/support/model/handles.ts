/** The model's open files. A handle says what it was opened for; its file lives on without a name. */
import { describeNode, type FileNode, resize, write } from './nodes.ts';
import type { OnHandle, OpenFlags } from './operations.ts';

interface Handle {
  readonly file: FileNode;
  readonly reads: boolean;
  readonly writes: boolean;
  readonly appends: boolean;
}

export class OpenHandles {
  readonly #open = new Map<number, Handle>();

  open(handle: number, how: OpenFlags, find: () => FileNode): void {
    if (this.#open.has(handle)) fail('EBADF');
    const file = find();
    this.#open.set(handle, { file, reads: how !== 'w', writes: how !== 'r', appends: how === 'a+' });
  }

  file(handle: number): FileNode {
    return this.#get(handle).file;
  }

  apply(operation: Exclude<OnHandle, { op: 'name' }>): unknown {
    const handle = this.#get(operation.handle);
    const { file } = handle;
    switch (operation.op) {
      case 'fread':
        return handle.reads ? file.bytes.toString() : fail('EBADF');
      case 'fstat':
        return describeNode(file);
      case 'fsync':
        return undefined;
      case 'close':
        this.#open.delete(operation.handle);
        return undefined;
      case 'write':
        if (!handle.writes) fail('EBADF');
        return write(file, handle.appends ? file.bytes.length : operation.offset, Buffer.from(operation.text));
      case 'ftruncate':
        return handle.writes ? resize(file, operation.size) : fail('EINVAL');
      case 'mapwrite': {
        if (file.bytes.length === 0) fail('EINVAL');
        if (!handle.reads || !handle.writes) fail('EACCES');
        const offset = operation.offset % file.bytes.length;
        return write(file, offset, Buffer.from(operation.text).subarray(0, file.bytes.length - offset));
      }
      case 'fallocate':
        return allocate(handle, operation);
      case 'copy':
        return copy(this.#get(operation.from), handle, operation);
    }
  }

  #get(handle: number): Handle {
    return this.#open.get(handle) ?? fail('EBADF');
  }
}

function allocate({ file, writes }: Handle, { how, offset, size }: Extract<OnHandle, { op: 'fallocate' }>): void {
  if (!writes) fail('EBADF');
  const end = offset + size;
  if (how === 'extend' || how === 'zero') if (file.bytes.length < end) resize(file, end);
  if (how === 'punch' || how === 'zero') file.bytes.fill(0, offset, Math.min(end, file.bytes.length));
  file.mtime = undefined;
}

function copy(from: Handle, to: Handle, { at, offset, size }: Extract<OnHandle, { op: 'copy' }>): number {
  if (!from.reads || !to.writes || to.appends) fail('EBADF');
  const bytes = Buffer.from(from.file.bytes.subarray(at, at + size));
  const length = bytes.length;
  if (from.file === to.file && offset + length > at && offset < at + length) fail('EINVAL');
  write(to.file, offset, bytes);
  return length;
}

function fail(code: string): never {
  throw code;
}
