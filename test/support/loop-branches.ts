/**
 * Branches as real filesystems: ext4 in sparse image files on loop devices, mounted below a temporary folder of their own.
 * Real sizes, real ENOSPC. The loop devices are of the autoclear kind: they end with their mount, whoever ends that.
 *
 * Everything is synchronous, so that it can also be undone while a process is on its way out.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface LoopBranches {
  /** Holds the images and mountpoints; free for the test's own files, and gone after close. */
  readonly folder: string;
  readonly paths: readonly string[];
  /** Unmounts whatever is mounted below the folder, removes it, and throws if something stayed behind. Can be repeated. */
  close(): void;
}

const mebibyte = 1024 ** 2;
/** A loop device goes by itself, a moment after its mount when somebody has it open just then. */
const detachLimitMs = 30_000;
/** Whoever looks through /proc at the files that others have open holds their mounts for an instant. */
const busyLimitMs = 5_000;
const pauseMs = 20;

export function makeLoopBranches(sizesBytes: readonly number[]): LoopBranches {
  const folder = mkdtempSync(join(tmpdir(), 'union-branches-'));
  chmodSync(folder, 0o755); // mkdtemp keeps other users out, who are part of what is tested
  const close = () => removeFolderWithMounts(folder);
  try {
    return { folder, paths: sizesBytes.map((size, index) => makeBranch(folder, `b${index}`, size)), close };
  } catch (error) {
    close();
    throw error;
  }
}

function makeBranch(folder: string, name: string, sizeBytes: number): string {
  const path = join(folder, name);
  const image = imageOf(path);
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  // No reserve for root, so that full means full; no zeroing in the background, so that measurements are alone.
  const inodeRatio = sizeBytes < 512 * mebibyte ? ['-i', '4096'] : [];
  runProgram('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', 'lazy_itable_init=0,nodiscard', ...inodeRatio, image]);
  mkdirSync(path);
  runProgram('mount', ['-t', 'ext4', '-o', 'loop', image, path]);
  return path;
}

/** Ends all mounts below a folder, deepest and latest first, and removes it. */
export function removeFolderWithMounts(folder: string): void {
  for (const mountpoint of mountpointsBelow(folder).reverse()) {
    const { status } = spawnSync('umount', [mountpoint], { stdio: 'ignore', timeout: 30_000 });
    if (status !== 0) spawnSync('umount', ['--lazy', mountpoint], { stdio: 'ignore', timeout: 30_000 });
  }
  const deadline = Date.now() + detachLimitMs;
  while (loopDevicesOf(folder).length > 0 && Date.now() < deadline) {
    endCopies(folder);
    pause();
  }
  const left = [...mountpointsBelow(folder), ...loopDevicesOf(folder)];
  if (left.length > 0) throw new Error(`left behind under ${folder}: ${left.join(', ')}`);
  rmSync(folder, { recursive: true, force: true });
}

/** Unmounts what nobody uses: tried again for a while where it is busy. Throws umount's complaint. */
export function unmount(mountpoint: string): void {
  const deadline = Date.now() + busyLimitMs;
  for (;;) {
    const { status, stderr } = spawnSync('umount', [mountpoint], { encoding: 'utf8', timeout: 30_000 });
    if (status === 0) return;
    if (!stderr.includes('busy') || Date.now() > deadline) throw new Error(`umount ${mountpoint} failed: ${stderr}`);
    pause();
  }
}

/** Unmounts a branch; its filesystem has ended then, and the image is as it stays. */
export function unmountBranch(branch: string): void {
  unmount(branch);
  const deadline = Date.now() + detachLimitMs;
  while (isInUse(imageOf(branch))) {
    if (Date.now() > deadline) throw new Error(`${imageOf(branch)} is still in use`);
    endCopies(branch);
    pause();
  }
}

/** Image of the branch that makeLoopBranches made at a path. */
export function imageOf(branch: string): string {
  return `${branch}.img`;
}

/** Whether a loop device has the image, which it lets go with the last mount. */
export function isInUse(image: string): boolean {
  return loopDevices().some(({ backing }) => backing === image);
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
}

/**
 * Ends copies of the mounts at or below a folder in other mount namespaces. Whoever makes a namespace meanwhile (a container,
 * unshare -m) copies them, and a filesystem lives as long as one of its mounts does: the union's server is not told to end.
 */
export function endCopies(folder: string): void {
  const seen = new Set([readlinkSync('/proc/self/ns/mnt')]);
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const namespace = readlinkSync(`/proc/${pid}/ns/mnt`);
      if (seen.has(namespace)) continue;
      seen.add(namespace);
      const enter = (...command: string[]) =>
        spawnSync('nsenter', [`--mount=/proc/${pid}/ns/mnt`, ...command], { encoding: 'utf8', timeout: 30_000 });
      // Not the process's own list: one that has changed its root sees what is below that only.
      for (const mountpoint of mountpointsBelow(folder, enter('cat', '/proc/self/mountinfo').stdout).reverse())
        enter('umount', '--lazy', '--no-canonicalize', mountpoint);
    } catch {
      // The process ended while we looked.
    }
  }
}

/** Mountpoints at or below a folder, in the order in which they were mounted; `mountinfo` is that of this process. */
export function mountpointsBelow(folder: string, mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): string[] {
  return mountinfo
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8))),
    )
    .filter((path) => path === folder || path.startsWith(`${folder}/`));
}

/** Loop devices of images at or below a folder. */
export function loopDevicesOf(folder: string): string[] {
  return loopDevices().flatMap(({ device, backing }) => (backing.startsWith(`${folder}/`) ? [device] : []));
}

function loopDevices(): { device: string; backing: string }[] {
  const names = readdirSync('/sys/block').filter((name) => name.startsWith('loop'));
  return names.flatMap((name) => {
    try {
      const backing = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trimEnd();
      return [{ device: `/dev/${name}`, backing }];
    } catch {
      return []; // not attached, or not any more
    }
  });
}

/** Runs a program to its end and returns what it printed; throws with its complaint when it fails. */
export function runProgram(
  name: string,
  args: readonly string[],
  options: { cwd?: string; timeoutMs?: number } = {},
): string {
  const { status, signal, stdout, stderr, error } = spawnSync(name, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    timeout: options.timeoutMs ?? 60_000,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (error) throw new Error(`${name} ${args.join(' ')}: ${error.message}`);
  if (status !== 0) throw new Error(`${name} ${args.join(' ')} ended with ${signal ?? status}: ${stderr || stdout}`);
  return stdout;
}
