/** Extended attributes of a path, links not followed. Paths are bytes: a branch may hold names that are not UTF-8. */
import { errnoCode, lgetxattr, llistxattr } from './syscalls.ts';

/** XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel. */
const MAX_BYTES = 64 * 1024;

/** Undefined where there is no such attribute, or none that this caller may read. */
export function readXattr(path: Buffer, name: string): Buffer | undefined {
  const value = Buffer.alloc(MAX_BYTES);
  try {
    return value.subarray(0, lgetxattr(terminated(path), name, value, value.length));
  } catch (error) {
    if (errnoCode(error) === 'ENODATA' || errnoCode(error) === 'EOPNOTSUPP') return undefined;
    throw error;
  }
}

/** Every attribute and its value. */
export function readXattrs(path: Buffer): ReadonlyMap<string, Buffer> {
  const names = Buffer.alloc(MAX_BYTES);
  const length = listed(path, names);
  const values = new Map<string, Buffer>();
  for (const name of names.toString('utf8', 0, length).split('\0')) {
    const value = name === '' ? undefined : readXattr(path, name);
    if (value !== undefined) values.set(name, Buffer.from(value));
  }
  return values;
}

function listed(path: Buffer, names: Buffer): number {
  try {
    return llistxattr(terminated(path), names, names.length);
  } catch (error) {
    if (errnoCode(error) === 'EOPNOTSUPP') return 0;
    throw error;
  }
}

function terminated(path: Buffer): Buffer {
  return Buffer.concat([path, Buffer.alloc(1)]);
}
