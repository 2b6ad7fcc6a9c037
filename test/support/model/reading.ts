/** What is on a real filesystem, in the words of the model: facts, listings, attributes, and whole trees of them. */
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { getXattr, listXattrs, numbersIn } from '../posix.ts';
import { type Acl, decodeAcl, type Facts, type Kind, type Listed } from './operations.ts';

export function factsOf(stats: BigIntStats): Facts {
  const kind = kindOf(stats);
  return {
    kind,
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    links: Number(stats.nlink),
    ...((kind === 'file' || kind === 'link') && { size: Number(stats.size) }),
    id: String(stats.ino),
    mtime: Number(stats.mtimeNs / 1_000_000_000n),
  };
}

function kindOf(stats: BigIntStats): Kind {
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'link';
  return stats.isFIFO() ? 'fifo' : 'file';
}

export function listed(path: string): Listed[] {
  const numbers = numbersIn(path);
  return [...numbers].filter(([name]) => name !== '.' && name !== '..').map(([name, id]) => ({ name, id: String(id) }));
}

/** Names of extended attributes that people set. */
export function ownXattrs(path: string): string[] {
  return listXattrs(path)
    .filter((name) => name.startsWith('user.') && !name.startsWith('user.union.'))
    .sort();
}

/** Access and default ACL. */
export function aclsOf(path: string): (Acl | null)[] {
  return ['access', 'default'].map((which) => {
    try {
      return decodeAcl(Buffer.from(getXattr(path, `system.posix_acl_${which}`), 'latin1'));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENODATA' || code === 'EOPNOTSUPP') return null;
      throw error;
    }
  });
}

/** All there is to a file but its names. */
export interface Whole {
  readonly facts: Facts;
  /** Content of a file, target of a link. */
  readonly text: string;
  readonly xattrs: readonly (readonly [name: string, value: string])[];
  readonly acls: readonly (Acl | null)[];
}

export function readWhole(path: string): Whole {
  const facts = factsOf(lstatSync(path, { bigint: true }));
  const text = facts.kind === 'file' ? readFileSync(path, 'latin1') : facts.kind === 'link' ? readlinkSync(path) : '';
  const xattrs = ownXattrs(path).map((name) => [name, getXattr(path, name)] as const);
  return { facts, text, xattrs, acls: aclsOf(path) };
}

/** Everything below a directory, by path. */
export function readAll(root: string): Map<string, Whole> {
  const found = new Map<string, Whole>();
  const visit = (path: string) => {
    for (const name of readdirSync(`${root}/${path}`).sort()) {
      const inner = path === '' ? name : `${path}/${name}`;
      const whole = readWhole(`${root}/${inner}`);
      found.set(inner, whole);
      if (whole.facts.kind === 'directory') visit(inner);
    }
  };
  visit('');
  return found;
}
