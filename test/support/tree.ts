/** What is in a directory tree, if there is one, as text: to compare views with each other and with the branches they are made of. */
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface Entry {
  readonly kind: 'file' | 'directory' | 'link';
  /** Content of a file, target of a link. */
  readonly text: string;
  readonly mode: number;
}

/** By path from the root of the tree. */
export type Tree = ReadonlyMap<string, Entry>;

const own = ['.union', 'lost+found'];

export function readTree(root: string): Tree {
  const tree = new Map<string, Entry>();
  const visit = (path: string) => {
    for (const name of readdirSync(join(root, path))) {
      if (path === '' && own.includes(name)) continue;
      const inner = path === '' ? name : `${path}/${name}`;
      const stat = lstatSync(join(root, inner));
      const mode = stat.mode & 0o7777;
      if (stat.isDirectory()) {
        tree.set(inner, { kind: 'directory', text: '', mode });
        visit(inner);
      } else if (stat.isSymbolicLink()) tree.set(inner, { kind: 'link', text: readlinkSync(join(root, inner)), mode });
      else tree.set(inner, { kind: 'file', text: readFileSync(join(root, inner), 'latin1'), mode });
    }
  };
  if (existsSync(root)) visit('');
  return tree;
}

/** The branches' trees as one. Throws where two have a name that is not a directory on both: the union makes no such thing. */
export function mergeTrees(branches: readonly Tree[]): Tree {
  const merged = new Map<string, Entry>();
  for (const tree of branches) {
    for (const [path, entry] of tree) {
      const other = merged.get(path);
      if (other && !(other.kind === 'directory' && entry.kind === 'directory'))
        throw new Error(`${path} is on two branches, as ${other.kind} and ${entry.kind}`);
      if (other && other.mode !== entry.mode) throw new Error(`${path} has modes ${other.mode} and ${entry.mode}`);
      merged.set(path, entry);
    }
  }
  return merged;
}

/** One line per entry, sorted: for comparing, with differences that can be read. */
export function describeTree(tree: Tree): string[] {
  return [...tree]
    .map(([path, { kind, text, mode }]) => `${path} ${kind} ${mode.toString(8)} ${text.length} ${text.slice(0, 20)}`)
    .sort();
}
