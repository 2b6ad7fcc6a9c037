/** Whether the view of a union is what the model has, and the branches hold what the view shows, each file whole on one of them. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { ModelFilesystem } from '../support/model/filesystem.ts';
import { describeNode } from '../support/model/nodes.ts';
import { readAll, type Whole } from '../support/model/reading.ts';
import { getXattr } from '../support/posix.ts';
import { nodesOf } from './drafts.ts';
import { countHidden, HIDDEN, HIDDEN_COUNT } from './duplicates.ts';

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

interface Places {
  readonly view: Tree;
  /** The directory in the union, and its name on the branches. */
  readonly root: string;
  readonly branches: readonly string[];
  readonly name: string;
  readonly isPlanted: boolean;
}

export function checkBranches({ view, root, branches, name, isPlanted }: Places): void {
  const trees = new Map(
    branches.map(
      (branch) => [branch, existsSync(join(branch, name)) ? readAll(join(branch, name)) : new Map()] as const,
    ),
  );
  const shown = new Map([...trees.keys()].map((branch) => [branch, new Set<string>()]));
  for (const [path, whole] of view) {
    const places = whereIs(join(root, path));
    expect(places.length === 1 || whole.facts.kind === 'directory', `${path} is on ${places}`).to.equal(true);
    for (const branch of places) {
      shown.get(branch)!.add(path);
      checkCopy(path, whole, trees.get(branch)!.get(path));
    }
    const times = places.map((branch) => trees.get(branch)!.get(path)!.facts.mtime!);
    expect(whole.facts.mtime, `mtime of ${path} on ${places}`).to.equal(Math.max(...times));
  }
  for (const [branch, tree] of trees)
    for (const [path, { text }] of tree)
      if (!shown.get(branch)!.has(path)) {
        // Directories and files that something else hides; a file that nobody hid there says that it is one.
        expect(isPlanted && isHidden(path, view, text), `${path} on ${branch}, which is not shown`).to.equal(true);
      }
  if (isPlanted) expect(countHidden(branches, name), 'hidden files that are left').to.equal(HIDDEN_COUNT);
}

function whereIs(path: string): readonly string[] {
  return getXattr(path, 'trusted.union.branches').split('\0');
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
