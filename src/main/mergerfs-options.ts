/**
 * mergerfs's policies for categories and single functions, and those of its options that this filesystem has no use for
 * (mergerfs documentation, "Options" and "Functions, Categories and Policies").
 *
 * Here a file is on one branch, a directory's copies are kept alike, and one policy says where new names go. Whatever means
 * that is accepted, so that a line of fstab can be taken over; anything else is named with what to do.
 */
import { suggestion, UsageError } from './flags.ts';

type Category = 'create' | 'action' | 'search';

const FUNCTIONS: Readonly<Record<string, Category>> = {
  create: 'create',
  mkdir: 'create',
  mknod: 'create',
  symlink: 'create',
  chmod: 'action',
  chown: 'action',
  link: 'action',
  removexattr: 'action',
  rename: 'action',
  rmdir: 'action',
  setxattr: 'action',
  truncate: 'action',
  unlink: 'action',
  utimens: 'action',
  access: 'search',
  getattr: 'search',
  getxattr: 'search',
  ioctl: 'search',
  listxattr: 'search',
  open: 'search',
  readlink: 'search',
};

/** Policies of mergerfs that say what happens here in any case. */
const HOLDS: Readonly<Record<Exclude<Category, 'create'>, readonly string[]>> = {
  action: ['all', 'epall'],
  search: ['ff', 'epff'],
};

const INSTEAD: Readonly<Record<Exclude<Category, 'create'>, string>> = {
  action: 'leave it out: a file is on one branch, and directories change on all',
  search: 'leave it out: the first branch in order wins',
};

export function isPolicyOption(name: string): boolean {
  return name.startsWith('category.') || name.startsWith('func.');
}

/** The create policy that `category.…` and `func.…` options give, in their order, or undefined. Throws UsageError. */
export function createPolicyOf(options: readonly (readonly [name: string, policy: string])[]): string | undefined {
  const creators = Object.keys(FUNCTIONS).filter((name) => FUNCTIONS[name] === 'create');
  const chosen = new Map<string, string>();
  for (const [name, policy] of options) {
    const category = categoryOf(name);
    if (category === 'create') {
      const functions = name.startsWith('func.') ? [name.slice('func.'.length)] : creators;
      for (const creator of functions) chosen.set(creator, policy);
    } else if (!HOLDS[category].includes(policy)) {
      throw new UsageError(`${name}=${policy} is an option of mergerfs alone; ${INSTEAD[category]}`);
    }
  }
  const policies = new Set(creators.map((creator) => chosen.get(creator)));
  if (policies.size === 1) return chosen.get('create');
  const given = [...chosen].map(([creator, policy]) => `func.${creator}=${policy}`).join(',');
  throw new UsageError(`${given}: one policy says where all that is new goes; use category.create`);
}

function categoryOf(name: string): Category {
  const [kind, rest = ''] = [name.slice(0, name.indexOf('.')), name.slice(name.indexOf('.') + 1)];
  if (kind === 'category') {
    if (rest === 'create' || rest === 'action' || rest === 'search') return rest;
    const hint = suggestion(rest, ['create', 'action', 'search'], 'category.');
    throw new UsageError(`unknown option ${name}${hint || '; categories are create, action and search'}`);
  }
  if (rest === 'readdir') throw new UsageError('func.readdir is an option of mergerfs alone; leave it out');
  const category = Object.hasOwn(FUNCTIONS, rest) ? FUNCTIONS[rest] : undefined;
  if (category !== undefined) return category;
  throw new UsageError(`unknown option ${name}${suggestion(rest, Object.keys(FUNCTIONS), 'func.') || '; see --help'}`);
}

interface Foreign {
  readonly instead: string;
  /** Values with which mergerfs does what is done here. */
  readonly holds?: readonly string[];
}

const NOT_NEEDED = 'leave it out';
const CACHE = 'use cache=shared or cache=exclusive';
const THREADS = 'leave it out: there is one reader for each cpu';

const FOREIGN: Readonly<Record<string, Foreign>> = {
  moveonenospc: {
    instead: 'leave it out and set minfreespace, so that new files avoid full branches',
    holds: ['false'],
  },
  async_read: { instead: NOT_NEEDED, holds: ['true'] },
  'branches-mount-timeout': { instead: 'use x-systemd.requires=PATH in fstab' },
  'cache.attr': { instead: CACHE },
  'cache.entry': { instead: CACHE },
  'cache.files': { instead: 'leave it out: file data is cached as on the branch itself' },
  'cache.negative_entry': { instead: CACHE },
  'cache.readdir': { instead: CACHE },
  'cache.statfs': { instead: NOT_NEEDED, holds: ['0'] },
  'cache.symlinks': { instead: CACHE },
  'cache.writeback': { instead: 'leave it out: file data is cached as on the branch itself', holds: ['false'] },
  direct_io: { instead: 'leave it out: file data is cached as on the branch itself', holds: ['false'] },
  dropcacheonclose: { instead: NOT_NEEDED, holds: ['false'] },
  'export-support': { instead: NOT_NEEDED },
  'follow-symlinks': { instead: 'leave it out: links are shown as links', holds: ['never'] },
  ignorepponrename: { instead: 'leave it out: a renamed file stays on its branch', holds: ['true'] },
  inodecalc: { instead: 'leave it out: inode numbers are persistent' },
  'link-exdev': { instead: 'leave it out: links work between all directories', holds: ['passthrough'] },
  link_cow: { instead: NOT_NEEDED, holds: ['false'] },
  nfsopenhack: { instead: NOT_NEEDED, holds: ['off'] },
  nullrw: { instead: NOT_NEEDED, holds: ['false'] },
  'parallel-direct-writes': { instead: NOT_NEEDED },
  passthrough: { instead: 'leave it out: file data goes past the server where it can', holds: ['rw'] },
  posix_acl: { instead: NOT_NEEDED, holds: ['true'] },
  'process-thread-count': { instead: THREADS },
  'process-thread-queue-depth': { instead: THREADS },
  'read-thread-count': { instead: THREADS },
  'rename-exdev': { instead: 'leave it out: renames work between all directories', holds: ['passthrough'] },
  security_capability: { instead: NOT_NEEDED, holds: ['true'] },
  statfs: { instead: 'leave it out: every branch counts', holds: ['base'] },
  statfs_ignore: { instead: 'leave it out: available space is that of branches which take new files' },
  symlinkify: { instead: NOT_NEEDED, holds: ['false'] },
  threads: { instead: THREADS },
  xattr: { instead: NOT_NEEDED, holds: ['passthrough'] },
};

/**
 * Whether `name` is an option of mergerfs alone whose value says what is true here anyway. Throws UsageError, with what to use
 * instead, where it says something else.
 */
export function acceptForeign(name: string, value: string | undefined): boolean {
  const foreign = Object.hasOwn(FOREIGN, name) ? FOREIGN[name] : undefined;
  if (foreign === undefined) return false;
  if (foreign.holds?.includes(value ?? 'true')) return true;
  throw new UsageError(`${name} is an option of mergerfs alone; ${foreign.instead}`);
}
