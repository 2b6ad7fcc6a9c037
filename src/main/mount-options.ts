/**
 * The command line of `union-csi mount`, parsed; nothing is looked at on disk here.
 * Names and meaning follow mergerfs where it has the same thing, so that a line of fstab can be taken over; sizes with K, M, G, T
 * are therefore powers of 1024 (as is Ki, Mi, …).
 */
import type { PolicySettings, Restriction } from '../../fuse/index.ts';
import { parseQuantity } from '../base/units.ts';
import type { BranchMode } from '../protocol/resources.ts';
import { parseFlags, suggestion, UsageError } from './flags.ts';
import { acceptForeign } from './mergerfs-options.ts';
import { isPolicyOption, policiesOf } from './policy-options.ts';

/** A branch as written: `path` may be a glob pattern. */
export interface BranchPattern {
  readonly path: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: number | undefined;
}

export interface MountRequest {
  readonly branches: readonly BranchPattern[];
  /** The branches as they were written. */
  readonly source: string;
  readonly mountpoint: string;
  readonly foreground: boolean;
  readonly policies: PolicySettings;
  /** As UnionOptions has it: a policy's name, or whether files move at all. */
  readonly moveOnNoSpace: boolean | string;
  /** For branches that do not say their own; undefined leaves it to the default (mount-checks.ts). */
  readonly minFreeSpaceBytes: number | undefined;
  readonly fsname: string | undefined;
  readonly readOnly: boolean;
  readonly restrictions: readonly Restriction[];
  readonly cache: 'exclusive' | 'shared';
  /** How many deaths of the server in a minute the mount survives; undefined when it is not kept. */
  readonly keep: number | undefined;
}

export const mountHelp = `usage: union-csi mount [-o OPTION,…] [-f] BRANCH:BRANCH… MOUNTPOINT

Mounts the union of some directories. BRANCH is PATH[=MODE[,MINFREE]]; PATH may be a glob.
  MODE     RW (default), RO, or NC: files may change, none are created
  MINFREE  no new files on this branch when less is free, such as 4G

  -f, --foreground         stay in the foreground; Ctrl-C unmounts
  -o category.create=NAME  where new files go (default pfrd: at random, weighted by free space);
                           ff mfs lfs rand epmfs mspmfs … as in mergerfs; func.mkdir=all and others too
  -o minfreespace=SIZE     MINFREE of branches that do not say their own
                           (default 4G, or a twentieth of the branch if that is less)
  -o moveonenospc=POLICY   where a file goes whose branch is full (default true: as new files go; false:
                           its writer is told), if it was opened when less than MINFREE was left
  -o cache=exclusive       nobody else changes the branches: names and attributes stay cached
  -o cache=shared          others may (default): names and attributes are looked up again soon
  -o keep[=DEATHS]         the mount outlives its server; after 5 deaths in a minute all is EIO: see upgrade
  -o fsname=NAME, ro, nosuid, nodev, noexec    the source that /proc/mounts shows; the others as for any mount
Options of mergerfs are accepted where they say what is true here; else the message says what to use.

Unmount with umount MOUNTPOINT, or by ending the command with SIGTERM or SIGINT: it waits until nobody uses
the mount; a second signal detaches it at once. From fstab, with bin/mount.fuse.union linked into /sbin:
  /mnt/disk*  /mnt/all  fuse.union  category.create=mfs,minfreespace=20G  0 0
See also: union-csi status, branch, where, check, upgrade
Example: union-csi mount -o category.create=mfs '/mnt/disk*' /mnt/all
`;

const MODES: readonly BranchMode[] = ['RW', 'RO', 'NC'];
const OPTIONS = ['minfreespace', 'moveonenospc', 'cache', 'fsname', 'keep', 'ro', 'rw'] as const;
const DEFAULT_DEATHS = 5;
/** mount(8)'s words for what is forbidden on the mount, and for what is not. */
const RESTRICTIONS: Readonly<Record<string, Restriction>> = {
  nosuid: 'nosuid',
  nodev: 'nodev',
  noexec: 'noexec',
  suid: 'nosuid',
  dev: 'nodev',
  exec: 'noexec',
};
/** What mount(8) and old fstab lines say, that is true anyway or not for us. */
const ACCEPTED = [
  'defaults allow_other default_permissions allow-other default-permissions',
  'auto noauto nofail _netdev user nouser users group owner',
  'relatime norelatime atime noatime diratime nodiratime strictatime lazytime nolazytime async',
].flatMap((line) => line.split(' '));

/** Throws UsageError. Names of policies are checked where policies are known. */
export function parseMountArguments(argv: readonly string[]): MountRequest {
  const { values, positionals } = parseFlags(mountHelp, {
    args: [...argv],
    allowPositionals: true,
    options: {
      option: { type: 'string', short: 'o', multiple: true },
      foreground: { type: 'boolean', short: 'f' },
    },
  });
  const [branches, mountpoint, extra] = positionals;
  if (!branches) throw new UsageError('branches and mountpoint are missing; see --help');
  if (!mountpoint) throw new UsageError('the mountpoint is missing: union-csi mount BRANCH:BRANCH… MOUNTPOINT');
  if (extra !== undefined) {
    throw new UsageError(`unexpected argument ${extra}; branches are one argument, separated by colons (quote globs)`);
  }
  const { options, policies, restrictions } = parseOptions((values.option ?? []).flatMap((list) => list.split(',')));
  const minFree = options.get('minfreespace');
  return {
    branches: branches.split(':').filter(Boolean).map(parseBranch),
    source: branches,
    mountpoint,
    foreground: values.foreground ?? false,
    policies,
    moveOnNoSpace: parseMove(options.get('moveonenospc')),
    minFreeSpaceBytes: minFree === undefined ? undefined : parseSize(minFree, 'minfreespace'),
    fsname: options.get('fsname'),
    readOnly: options.has('ro'),
    restrictions,
    cache: parseCache(options.get('cache')),
    keep: parseKeep(options.get('keep')),
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

interface Options {
  readonly options: ReadonlyMap<string, string>;
  readonly policies: PolicySettings;
  readonly restrictions: readonly Restriction[];
}

function parseOptions(items: readonly string[]): Options {
  const options = new Map<string, string>();
  const policies: (readonly [string, string])[] = [];
  const restrictions = new Set<Restriction>();
  for (const item of items) {
    const equals = item.indexOf('=');
    const name = equals < 0 ? item : item.slice(0, equals);
    const value = equals < 0 ? undefined : item.slice(equals + 1);
    const restriction = Object.hasOwn(RESTRICTIONS, name) ? RESTRICTIONS[name] : undefined;
    if (restriction !== undefined) {
      if (name === restriction) restrictions.add(restriction);
      else restrictions.delete(restriction);
    } else if (isPolicyOption(name)) {
      policies.push([name, required(name, value)]);
    } else if (!isAccepted(name) && !acceptForeign(name, value)) {
      setOption(options, name, value);
    }
  }
  return { options, policies: policiesOf(policies), restrictions: [...restrictions] };
}

function isAccepted(name: string): boolean {
  return name === '' || ACCEPTED.includes(name) || /^[xX]-/.test(name) || name === 'comment';
}

function setOption(options: Map<string, string>, name: string, value: string | undefined): void {
  if (name === 'remount') throw new UsageError('a union cannot be remounted; unmount it, or use union-csi branch set');
  if (!OPTIONS.some((known) => known === name)) {
    const known = [...OPTIONS, 'category.create', ...Object.keys(RESTRICTIONS)];
    throw new UsageError(`unknown option ${name}${suggestion(name, known) || '; see --help'}`);
  }
  const isFlag = name === 'ro' || name === 'rw';
  if (isFlag && value !== undefined) throw new UsageError(`option ${name} takes no value`);
  if (isFlag) options.delete(name === 'ro' ? 'rw' : 'ro'); // as in mount(8), the last one counts
  const fallback = name === 'moveonenospc' ? 'true' : name === 'keep' ? `${DEFAULT_DEATHS}` : undefined;
  options.set(name, isFlag ? '' : required(name, value ?? fallback));
}

function required(name: string, value: string | undefined): string {
  if (!value) throw new UsageError(`option ${name} needs a value: ${name}=…`);
  return value;
}

function parseSize(text: string, what: string): number {
  const size = parseQuantity(/^\d+[kmgt]$/i.test(text) ? `${text.slice(0, -1)}${text.at(-1)!.toUpperCase()}i` : text);
  if (!size.ok) throw new UsageError(`${what}: ${size.error}`);
  if (size.value > BigInt(Number.MAX_SAFE_INTEGER)) throw new UsageError(`${what}: "${text}" is out of range`);
  return Number(size.value);
}

function parseMove(text = 'true'): boolean | string {
  return text === 'true' || text === 'false' ? text === 'true' : text;
}

function parseKeep(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new UsageError(`keep=${text}: write how many deaths in a minute, such as keep=5`);
  return Number(text);
}

function parseCache(text: string | undefined): 'exclusive' | 'shared' {
  if (text === undefined) return 'shared';
  if (text === 'exclusive' || text === 'shared') return text;
  throw new UsageError(
    `unknown cache ${text}${suggestion(text, ['exclusive', 'shared']) || '; write exclusive or shared'}`,
  );
}
