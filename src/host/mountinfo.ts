/**
 * What is mounted where, from /proc/self/mountinfo (proc_pid_mountinfo(5)). Reading it touches no mount, so it is safe
 * where stat(2) would hang on a dead server.
 * Paths are kept as the kernel prints them, with its octal escapes (\040 \011 \012 \134 \043) undone; bytes that are not UTF-8
 * become U+FFFD, which no path of ours contains.
 */
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

export interface MountInfo {
  readonly mountId: number;
  readonly parentId: number;
  /** `major:minor` of st_dev for files on this mount. */
  readonly device: string;
  /** The directory of the filesystem that is this mount's root: not `/` for bind mounts of a part. */
  readonly root: string;
  readonly mountpoint: string;
  readonly options: readonly string[];
  readonly fsType: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

/** Undoes the kernel's octal escapes, which are of bytes. */
export function unescapePath(text: string): string {
  if (!text.includes('\\')) return text;
  const bytes: number[] = [];
  const encoded = Buffer.from(text);
  for (let i = 0; i < encoded.length; i++) {
    const octal = encoded[i] === 0x5c ? /^[0-3][0-7]{2}$/.exec(encoded.toString('latin1', i + 1, i + 4)) : null;
    if (octal) {
      bytes.push(Number.parseInt(octal[0], 8));
      i += 3;
    } else {
      bytes.push(encoded[i]!);
    }
  }
  return Buffer.from(bytes).toString();
}

/** Parses the whole file, in its order: of several mounts on one path the last is on top. Malformed lines are left out. */
export function parseMountInfo(text: string): readonly MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split('\n')) {
    const mount = parseLine(line);
    if (mount) mounts.push(mount);
  }
  return mounts;
}

function parseLine(line: string): MountInfo | undefined {
  const fields = line.split(' ');
  const separator = fields.indexOf('-', 6);
  const [mountId, parentId, device, root, mountpoint, options] = fields;
  if (separator < 0 || !options || !root || !mountpoint || !/^\d+:\d+$/.test(device ?? '')) return undefined;
  return {
    mountId: Number(mountId),
    parentId: Number(parentId),
    device: device!,
    root: unescapePath(root),
    mountpoint: unescapePath(mountpoint),
    options: options.split(','),
    fsType: fields[separator + 1] ?? '',
    source: unescapePath(fields[separator + 2] ?? ''),
    superOptions: (fields[separator + 3] ?? '').split(','),
  };
}

/** All mounts of this process's mount namespace. */
export function readMountInfo(): readonly MountInfo[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** The topmost mount exactly at `path`, which must be absolute and free of symbolic links. */
export function mountAt(path: string, mounts: readonly MountInfo[] = readMountInfo()): MountInfo | undefined {
  return mounts.findLast((mount) => mount.mountpoint === path);
}

/** The mount that `path` is on; absolute and free of symbolic links. */
export function mountOf(path: string, mounts: readonly MountInfo[] = readMountInfo()): MountInfo | undefined {
  return mounts
    .filter((mount) => isWithin(path, mount.mountpoint))
    .reduce<MountInfo | undefined>(
      (best, mount) => (mount.mountpoint.length >= (best?.mountpoint.length ?? 0) ? mount : best),
      undefined,
    );
}

/** Whether a mount shows what is at `source`, which may be a file: a bind of it. `source` is absolute and free of symbolic links. */
export function isBindOf(mount: MountInfo, source: string, mounts: readonly MountInfo[] = readMountInfo()): boolean {
  const from = mountOf(source, mounts);
  return mount.device === from?.device && mount.root === join(from.root, relative(from.mountpoint, source));
}

/** Whether `path` is `directory` or lies below it. Both absolute and normalised. */
export function isWithin(path: string, directory: string): boolean {
  return directory === '/' || path === directory || path.startsWith(`${directory}/`);
}
