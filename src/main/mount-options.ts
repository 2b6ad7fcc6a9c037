/**
 * The command line of `union-csi mount`, parsed; nothing is looked at on disk here.
 * Names and meaning follow mergerfs where it has the same thing, so that a line of fstab can be taken over; sizes with K, M, G, T
 * are therefore powers of 1024 (as is Ki, Mi, …).
 */
import { parseQuantity } from '../base/units.ts';
import type { BranchMode } from '../protocol/resources.ts';
import { parseFlags, suggestion, UsageError } from './flags.ts';

/** A branch as written: `path` may be a glob pattern. */
export interface BranchPattern {
  readonly path: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: number | undefined;
}

export interface MountRequest {
  readonly branches: readonly BranchPattern[];
  readonly mountpoint: string;
  readonly foreground: boolean;
  readonly createPolicy: string;
  /** For branches that do not say their own; undefined leaves it to the default (mount-checks.ts). */
  readonly minFreeSpaceBytes: number | undefined;
  readonly fsname: string | undefined;
  readonly readOnly: boolean;
  readonly cache: 'exclusive' | 'shared';
}

export const mountHelp = `usage: union-csi mount [-o OPTION,…] [-f] BRANCH:BRANCH… MOUNTPOINT

Mounts the union of some directories. BRANCH is PATH[=MODE[,MINFREE]]; PATH may be a glob.
  MODE     RW (default), RO, or NC: files may change, none are created
  MINFREE  no new files on this branch when less is free, such as 4G

  -f, --foreground         stay in the foreground; Ctrl-C unmounts
  -o category.create=NAME  where new files go (default pfrd: at random, weighted by free space);
                           ff mfs lfs rand epmfs mspmfs … as in mergerfs
  -o minfreespace=SIZE     MINFREE of branches that do not say their own
                           (default 4G, or a twentieth of the branch if that is less)
  -o cache=exclusive       nobody else changes the branches: names and attributes stay cached
  -o cache=shared          others may (default): names and attributes are looked up again soon
  -o fsname=NAME           the source that /proc/mounts shows
  -o ro                    read only

Unmount with umount MOUNTPOINT, or by ending the command with SIGTERM or SIGINT: it waits until nobody uses
the mount; a second signal detaches it at once.
Example: union-csi mount -o category.create=mfs '/mnt/disk*' /mnt/all
`;

const MODES: readonly BranchMode[] = ['RW', 'RO', 'NC'];
const OPTIONS = ['category.create', 'minfreespace', 'cache', 'fsname', 'ro', 'rw'] as const;
/** What mount(8) and old fstab lines say, that is true anyway or not for us. */
const ACCEPTED = ['defaults', 'allow_other', 'use_ino', 'nonempty', 'auto', 'noauto', 'nofail', '_netdev'];
/** mergerfs's own options, and what to do instead. */
const FOREIGN: Readonly<Record<string, string>> = {
  moveonenospc: 'leave it out and set minfreespace, so that new files avoid full branches',
  'cache.files': 'leave it out: file data is cached as on the branch itself',
  'cache.attr': 'use cache=shared or cache=exclusive',
  'cache.entry': 'use cache=shared or cache=exclusive',
  'cache.negative_entry': 'use cache=shared or cache=exclusive',
  'cache.readdir': 'use cache=shared or cache=exclusive',
  'cache.statfs': 'leave it out',
  'category.action': 'leave it out: a file is on one branch, and directories change on all',
  'category.search': 'leave it out: the first branch in order wins',
  inodecalc: 'leave it out: inode numbers are persistent',
  dropcacheonclose: 'leave it out',
  threads: 'leave it out: there is one reader for each cpu',
  'read-thread-count': 'leave it out: there is one reader for each cpu',
};

/** Returns undefined when help was asked for. Throws UsageError. The policy's name is checked where policies are known. */
export function parseMountArguments(argv: readonly string[]): MountRequest | undefined {
  const { values, positionals } = parseFlags({
    args: [...argv],
    allowPositionals: true,
    options: {
      option: { type: 'string', short: 'o', multiple: true },
      foreground: { type: 'boolean', short: 'f' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return undefined;
  const [branches, mountpoint, extra] = positionals;
  if (!branches) throw new UsageError('branches and mountpoint are missing; see --help');
  if (!mountpoint) throw new UsageError('the mountpoint is missing: union-csi mount BRANCH:BRANCH… MOUNTPOINT');
  if (extra !== undefined) {
    throw new UsageError(`unexpected argument ${extra}; branches are one argument, separated by colons (quote globs)`);
  }
  const options = parseOptions((values.option ?? []).flatMap((list) => list.split(',')));
  const minFree = options.get('minfreespace');
  return {
    branches: branches.split(':').filter(Boolean).map(parseBranch),
    mountpoint,
    foreground: values.foreground ?? false,
    createPolicy: options.get('category.create') ?? 'pfrd',
    minFreeSpaceBytes: minFree === undefined ? undefined : parseSize(minFree, 'minfreespace'),
    fsname: options.get('fsname'),
    readOnly: options.has('ro'),
    cache: parseCache(options.get('cache')),
  };
}

/** One item of the branch list. An `=` in a path's last component needs the mode spelled out after it. */
export function parseBranch(text: string): BranchPattern {
  const split = /^(.*)=([^=/]*)$/s.exec(text);
  if (!split) return { path: text, mode: 'RW', minFreeSpaceBytes: undefined };
  const [, path = '', suffix = ''] = split;
  const [modeText = '', minFree, ...rest] = suffix.split(',');
  const mode = MODES.find((known) => known === modeText.toUpperCase());
  if (path === '') throw new UsageError(`branch ${text} has no path before the =`);
  if (!mode) {
    const hint = suggestion(modeText, MODES) || '; modes are RW, RO and NC';
    throw new UsageError(`unknown mode ${modeText} of branch ${path}${hint}`);
  }
  if (rest.length > 0) throw new UsageError(`branch ${text} has too many commas; write PATH=MODE,MINFREE`);
  return {
    path,
    mode,
    minFreeSpaceBytes: minFree === undefined ? undefined : parseSize(minFree, `free space of branch ${path}`),
  };
}

function parseOptions(items: readonly string[]): ReadonlyMap<string, string> {
  const options = new Map<string, string>();
  for (const item of items) {
    const equals = item.indexOf('=');
    const name = equals < 0 ? item : item.slice(0, equals);
    const value = equals < 0 ? undefined : item.slice(equals + 1);
    if (name === '' || ACCEPTED.includes(name) || name.startsWith('x-')) continue;
    const instead = FOREIGN[name] ?? (name.startsWith('func.') ? 'use category.create' : undefined);
    if (instead !== undefined) throw new UsageError(`${name} is an option of mergerfs alone; ${instead}`);
    if (!OPTIONS.some((known) => known === name)) {
      throw new UsageError(`unknown option ${name}${suggestion(name, OPTIONS) || '; see --help'}`);
    }
    const isFlag = name === 'ro' || name === 'rw';
    if (isFlag && value !== undefined) throw new UsageError(`option ${name} takes no value`);
    if (!isFlag && !value) throw new UsageError(`option ${name} needs a value: ${name}=…`);
    if (isFlag) options.delete(name === 'ro' ? 'rw' : 'ro'); // as in mount(8), the last one counts
    options.set(name, value ?? '');
  }
  return options;
}

function parseSize(text: string, what: string): number {
  const size = parseQuantity(/^\d+[kmgt]$/i.test(text) ? `${text.slice(0, -1)}${text.at(-1)!.toUpperCase()}i` : text);
  if (!size.ok) throw new UsageError(`${what}: ${size.error}`);
  if (size.value > BigInt(Number.MAX_SAFE_INTEGER)) throw new UsageError(`${what}: "${text}" is out of range`);
  return Number(size.value);
}

function parseCache(text: string | undefined): 'exclusive' | 'shared' {
  if (text === undefined) return 'shared';
  if (text === 'exclusive' || text === 'shared') return text;
  throw new UsageError(
    `unknown cache ${text}${suggestion(text, ['exclusive', 'shared']) || '; write exclusive or shared'}`,
  );
}
