/** The user attributes of a file, as one line. */
import * as libc from '../../fuse/sys/libc.ts';

const BYTES = 4096;

export function lgetxattr(path: string): string {
  const buffer = libc.malloc(BYTES);
  try {
    return libc.withCString(path, (address) => {
      const length = libc.llistxattr(address, buffer, BYTES);
      const list = Buffer.from(libc.viewOf(buffer, BYTES).slice(0, Math.max(0, length))).toString();
      return list
        .split('\0')
        .filter((name) => name.startsWith('user.'))
        .map((name) => {
          const size = libc.withCString(name, (text) => libc.lgetxattr(address, text, buffer, BYTES));
          return `${name}=${Buffer.from(libc.viewOf(buffer, BYTES).slice(0, Math.max(0, size))).toString()}`;
        })
        .join(' ');
    });
  } finally {
    libc.free(buffer);
  }
}
