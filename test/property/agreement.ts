/** Whether the view of a union is what the model has, and the branches hold what the view shows, each file whole on one of them. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { ModelFilesystem } from '../support/model/filesystem.ts';
import { describeNode } from '../support/model/nodes.ts';
import { readAll, type Whole } from '../support/model/reading.ts';
import { getXattr } from '../support/posix.ts';
import { nodesOf } from './drafts.ts';
import { HIDDEN } from './duplicates.ts';

type Tree = ReadonlyMap<string, Whole>;

export function checkView(model: ModelFilesystem, view: Tree): void {
  const nodes = nodesOf(model);
  expect([...view.keys()].sort()).to.deep.equal([...nodes.keys()].sort());
  for (const [path, node] of nodes) {
    const { facts, text, xattrs, acls } = view.get(path)!;
    const { id: _, ...wanted } = describeNode(node);
    expect(facts, path).to.include(wanted);
    const content = node.kind === 'file' ? node.bytes.toString('latin1') : node.kind === 'link' ? node.target : '';
    expect(text === content, `content of ${path}`).to.equal(true);
    expect(xattrs, path).to.deep.equal([...node.xattrs].sort());
    const defaultAcl = node.kind === 'directory' ? node.defaultAcl : undefined;
    expect(acls, path).to.deep.equal([node.acl ?? null, defaultAcl ?? null]);
  }
}

/** The branches that each file is on, as the union says, below one of its directories. */
export type Places = ReadonlyMap<string, readonly string[]>;

export function placesOf(view: Tree, root: string): Places {
  return new Map(
    [...view.keys()].map((path) => [path, getXattr(join(root, path), 'trusted.union.branches').split('\0')] as const),
  );
}

/** What is in a directory, where there is one. */
export function treeAt(directory: string): Tree {
  return existsSync(directory) ? readAll(directory) : new Map();
}

export interface Held {
  readonly view: Tree;
  readonly places: Places;
  /** By branch: what it holds. */
  readonly trees: ReadonlyMap<string, Tree>;
  readonly isPlanted: boolean;
}

/** Each branch, of those in `trees`, holds what is said to be on it, whole, and nothing else but what is hidden. */
export function checkBranches({ view, places, trees, isPlanted }: Held): void {
  const shown = new Map([...trees.keys()].map((branch) => [branch, new Set<string>()]));
  for (const [path, whole] of view) {
    const all = places.get(path)!;
    expect(all.length === 1 || whole.facts.kind === 'directory', `${path} is on ${all}`).to.equal(true);
    const held = all.filter((branch) => trees.has(branch));
    for (const branch of held) {
      shown.get(branch)!.add(path);
      checkCopy(path, whole, trees.get(branch)!.get(path));
    }
    if (held.length < all.length) continue;
    const times = held.map((branch) => trees.get(branch)!.get(path)!.facts.mtime!);
    expect(whole.facts.mtime, `mtime of ${path} on ${all}`).to.equal(Math.max(...times));
  }
  for (const [branch, tree] of trees)
    for (const [path, { text }] of tree)
      if (!shown.get(branch)!.has(path)) {
        // Directories and files that something else hides; a file that nobody hid there says that it is one.
        expect(isPlanted && isHidden(path, view, text), `${path} on ${branch}, which is not shown`).to.equal(true);
      }
}

/** What a branch has of a file is all of it; directories have links, sizes and times of their own there. */
function checkCopy(path: string, whole: Whole, copy: Whole | undefined): void {
  expect(copy, `${path} where it should be`).not.to.equal(undefined);
  const { id: _, ...facts } = whole.facts;
  const { links, mtime, ...common } = facts;
  expect(copy!.facts, path).to.include(facts.kind === 'directory' ? common : { ...common, links, mtime });
  expect(copy!.text === whole.text, `content of ${path}`).to.equal(true);
  expect([copy!.xattrs, copy!.acls], path).to.deep.equal([whole.xattrs, whole.acls]);
}

function isHidden(path: string, view: Tree, text: string): boolean {
  const kind = view.get(path)?.facts.kind;
  return text.startsWith(HIDDEN) || (kind !== undefined && kind !== 'directory');
}
