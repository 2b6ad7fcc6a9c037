/**
 * Unix sockets at paths of any length: sun_path holds 107 bytes, and kubelet's directories are longer. The directory is opened,
 * and the socket is named through /proc/self/fd.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { AF_UNIX } from './syscalls.ts';

const O_PATH = 0o10000000;
const MAX_PATH_BYTES = 107;

/** Calls `use` with a struct sockaddr_un that names `path` for as long as the call takes. Throws ENOENT without its directory. */
export function withSocketAddress<T>(path: string, use: (address: Buffer) => T): T {
  const directory = openSync(dirname(path), O_PATH | constants.O_DIRECTORY);
  try {
    return use(socketAddress(`/proc/self/fd/${directory}/${basename(path)}`));
  } finally {
    closeSync(directory);
  }
}

function socketAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length > MAX_PATH_BYTES) throw new Error(`socket name in ${path} is too long`);
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX);
  bytes.copy(address, 2);
  return address;
}
