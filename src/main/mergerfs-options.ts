/**
 * Options of mergerfs that this filesystem has no use for (mergerfs documentation, "Options" and "Deprecated Options"). One whose value
 * says what is true here anyway is accepted, so that a line of fstab can be taken over; any other is named with what to use
 * instead. As in mergerfs `-` and `_` are one in names.
 */
import { UsageError } from './flags.ts';

interface Foreign {
  readonly instead: string;
  /** Values with which mergerfs does what is done here. */
  readonly holds?: readonly string[];
}

const NOT_NEEDED = 'leave it out';
const CACHED_AS_BELOW = 'leave it out: file data is cached as on the branch itself';
const PERSISTENT = 'leave it out: inode numbers are persistent';
const CACHE = 'use cache=shared or cache=exclusive';
const THREADS = 'leave it out: there is one reader for each cpu';

const FOREIGN: Readonly<Record<string, Foreign>> = {
  'allow-idmap': { instead: NOT_NEEDED, holds: ['false'] },
  'async-read': { instead: NOT_NEEDED, holds: ['true'] },
  'atomic-o-trunc': { instead: NOT_NEEDED, holds: ['true'] },
  'attr-timeout': { instead: CACHE },
  'auto-cache': { instead: CACHED_AS_BELOW, holds: ['true'] },
  branches: { instead: 'write the branches before the mountpoint' },
  'branches-mount-timeout': { instead: 'use x-systemd.requires=PATH in fstab', holds: ['0'] },
  'branches-mount-timeout-fail': { instead: 'leave it out: a branch that is missing fails the mount', holds: ['true'] },
  'cache.attr': { instead: CACHE },
  'cache.entry': { instead: CACHE },
  'cache.files': { instead: CACHED_AS_BELOW },
  'cache.files.process-names': { instead: CACHED_AS_BELOW },
  'cache.negative-entry': { instead: CACHE },
  'cache.open': { instead: CACHE, holds: ['0'] },
  'cache.readdir': { instead: CACHE },
  'cache.statfs': { instead: NOT_NEEDED, holds: ['0'] },
  'cache.symlinks': { instead: CACHE },
  'cache.writeback': { instead: CACHED_AS_BELOW, holds: ['false'] },
  config: { instead: 'write the options into fstab or after -o' },
  debug: { instead: 'leave it out: union-csi status tells what goes on', holds: ['false'] },
  'direct-io': { instead: CACHED_AS_BELOW, holds: ['false'] },
  'direct-io-allow-mmap': { instead: NOT_NEEDED, holds: ['true'] },
  dropcacheonclose: { instead: NOT_NEEDED, holds: ['false'] },
  'entry-timeout': { instead: CACHE },
  'export-support': { instead: NOT_NEEDED },
  'flush-on-close': { instead: 'leave it out: nothing is held back', holds: ['never'] },
  'follow-symlinks': { instead: 'leave it out: links are shown as links', holds: ['never'] },
  'fuse-msg-size': { instead: 'leave it out: requests are of one megabyte', holds: ['1M', '1MiB', '256'] },
  gid: { instead: 'leave it out: owners are those on the branches' },
  'gid-cache.expire-timeout': { instead: NOT_NEEDED },
  'gid-cache.remove-timeout': { instead: NOT_NEEDED },
  'handle-killpriv': { instead: NOT_NEEDED, holds: ['true'] },
  'handle-killpriv-v2': { instead: NOT_NEEDED, holds: ['true'] },
  ignorepponrename: { instead: 'leave it out: a renamed file stays on its branch', holds: ['true'] },
  inodecalc: { instead: PERSISTENT },
  'kernel-cache': { instead: CACHED_AS_BELOW, holds: ['true'] },
  'kernel-permissions-check': { instead: 'leave it out: the kernel checks permissions', holds: ['true'] },
  'lazy-umount-mountpoint': { instead: 'leave it out: the mount of a killed server is removed', holds: ['false'] },
  'link-cow': { instead: NOT_NEEDED, holds: ['false'] },
  'link-exdev': { instead: 'leave it out: links work between all directories', holds: ['passthrough'] },
  'log.file': { instead: 'use -f and redirect what it writes' },
  'negative-entry': { instead: CACHE },
  'never-forget-nodes': { instead: PERSISTENT, holds: ['false'] },
  nfsopenhack: { instead: NOT_NEEDED, holds: ['off'] },
  noforget: { instead: PERSISTENT },
  nullrw: { instead: NOT_NEEDED, holds: ['false'] },
  'parallel-direct-writes': { instead: NOT_NEEDED },
  'passthrough.io': { instead: 'leave it out: file data goes past the server where it can', holds: ['rw'] },
  'passthrough.max-stack-depth': { instead: NOT_NEEDED, holds: ['1'] },
  'pin-threads': { instead: THREADS, holds: ['false'] },
  'posix-acl': { instead: NOT_NEEDED, holds: ['true'] },
  'process-thread-count': { instead: THREADS },
  'process-thread-queue-depth': { instead: THREADS },
  'proxy-ioprio': { instead: NOT_NEEDED, holds: ['false'] },
  'read-thread-count': { instead: THREADS },
  readahead: { instead: 'leave it out: reads are read ahead as on the branch itself', holds: ['0'] },
  remember: { instead: PERSISTENT },
  'remember-nodes': { instead: PERSISTENT },
  'rename-exdev': { instead: 'leave it out: renames work between all directories', holds: ['passthrough'] },
  'scheduling-priority': { instead: 'start the command with nice' },
  'security-capability': { instead: NOT_NEEDED, holds: ['true'] },
  srcmounts: { instead: 'write the branches before the mountpoint' },
  statfs: { instead: 'leave it out: every branch counts', holds: ['base'] },
  'statfs-ignore': { instead: 'leave it out: available space is that of branches which take new files', holds: ['nc'] },
  symlinkify: { instead: NOT_NEEDED, holds: ['false'] },
  'symlinkify-timeout': { instead: NOT_NEEDED },
  'sync-read': { instead: NOT_NEEDED, holds: ['false'] },
  threads: { instead: THREADS },
  uid: { instead: 'leave it out: owners are those on the branches' },
  umask: { instead: 'leave it out: modes are those on the branches' },
  xattr: { instead: NOT_NEEDED, holds: ['passthrough'] },
};

/** Those that say nothing in mergerfs either. */
const WITHOUT_MEANING = [
  'big-writes',
  'hard-remove',
  'nonempty',
  'no-splice-move',
  'no-splice-read',
  'no-splice-write',
  'splice-move',
  'splice-read',
  'splice-write',
  'use-ino',
];

/**
 * Whether `name` is an option of mergerfs alone whose value says what is true here anyway. Throws UsageError, with what to use
 * instead, where it says something else.
 */
export function acceptForeign(name: string, value: string | undefined): boolean {
  const plain = name.replaceAll('_', '-');
  if (WITHOUT_MEANING.includes(plain)) return true;
  const foreign = Object.hasOwn(FOREIGN, plain) ? FOREIGN[plain] : undefined;
  if (foreign === undefined) return false;
  if (foreign.holds?.includes(value ?? 'true')) return true;
  throw new UsageError(`${name} is an option of mergerfs alone; ${foreign.instead}`);
}
