/**
 * A directory that three branches disagree about: the same names stand for different things. The first branch in order wins;
 * what it hides has content that says so, so that it can be looked for afterwards.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { ModelFilesystem } from '../support/model/filesystem.ts';

/** What hidden files contain, and their number. */
export const HIDDEN = 'hidden ';
export const HIDDEN_COUNT = 6;

/** Undefined is a directory. Each branch's entries in order, parents first. */
const branches: readonly Readonly<Record<string, string | undefined>>[] = [
  { a: undefined, 'a/a': 'shown', 'a/d': undefined, b: 'shown', d: undefined },
  {
    a: undefined,
    'a/a': `${HIDDEN}1`,
    'a/b': 'shown',
    'a/d': `${HIDDEN}2`,
    b: undefined,
    'b/c': `${HIDDEN}3`,
    c: undefined,
    'c/a': 'shown',
  },
  {
    a: undefined,
    'a/b': `${HIDDEN}4`,
    'a/c': 'shown',
    'a/d': undefined,
    'a/d/a': 'shown',
    b: `${HIDDEN}5`,
    c: undefined,
    'c/a': `${HIDDEN}6`,
    'c/b': 'shown',
    d: undefined,
  },
];

export function plantDuplicates(roots: readonly string[], name: string): void {
  for (const [index, entries] of branches.entries()) {
    mkdirSync(`${roots[index]}/${name}`);
    for (const [path, text] of Object.entries(entries)) {
      const at = `${roots[index]}/${name}/${path}`;
      if (text === undefined) mkdirSync(at, 0o755);
      else writeFileSync(at, text.replace(HIDDEN, `${HIDDEN}${name} `), { mode: 0o644 });
    }
  }
}

/** The same, as a union shows it. */
export function plantModel(model: ModelFilesystem): void {
  const known = new Set<string>();
  for (const entries of branches) {
    for (const [path, text] of Object.entries(entries)) {
      if (text?.startsWith(HIDDEN) || known.has(path) || path === 'b/c') continue;
      known.add(path);
      model.plant(path, text);
    }
  }
}

/** How many of them are left: below the directory on the branches, or among what the union has set aside. */
export function countHidden(roots: readonly string[], name: string): number {
  const found = new Set<string>();
  const visit = (directory: string) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) visit(path);
      if (!entry.isFile()) continue;
      const text = readFileSync(path, 'latin1');
      if (text.startsWith(`${HIDDEN}${name} `)) found.add(text);
    }
  };
  for (const root of roots)
    for (const inner of [name, '.union']) if (existsSync(`${root}/${inner}`)) visit(`${root}/${inner}`);
  return found.size;
}
