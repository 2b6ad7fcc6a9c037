/** Random operations on a filesystem: drafts, whose paths are chosen when their turn comes from what the model has then. */
import fc from 'fast-check';
import type { ModelFilesystem } from '../support/model/filesystem.ts';
import type { Node } from '../support/model/nodes.ts';
import { type Allocation, MAKING, ON_PATH, type OpenFlags, type Operation } from '../support/model/operations.ts';

/** A path: one that exists when its turn comes, or a name below a directory that does, or now and then below what is none. */
interface Operand {
  readonly nth: number;
  readonly below: string | undefined;
  readonly inDirectory: boolean;
}

export interface Draft {
  readonly op: Operation['op'];
  readonly path?: Operand;
  readonly to?: Operand;
}

export interface Step {
  readonly client: number;
  readonly draft: Draft;
}

const name = fc.constantFrom('a', 'b', 'c', 'd', 'long'.repeat(63));
const inDirectory = fc.integer({ min: 0, max: 19 }).map((n) => n > 0);
const operand: fc.Arbitrary<Operand> = fc.record({
  nth: fc.nat(),
  below: fc.option(name, { nil: undefined, freq: 4 }),
  inDirectory,
});
const fresh: fc.Arbitrary<Operand> = fc.record({ nth: fc.nat(), below: name, inDirectory });
const text = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 20, unit: 'grapheme-ascii' }) },
  { weight: 1, arbitrary: fc.constant('long '.repeat(2000)) },
);
const handle = fc.nat({ max: 2 });
const listing = fc.nat({ max: 1 });
const size = fc.nat({ max: 20_000 });
const atLeastOne = size.map((bytes) => bytes + 1);
const id = fc.constantFrom(0, 1, 1000, 65_534);
const bits = fc.nat({ max: 7 });
const acl = fc.record({ owner: bits, user: bits, group: bits, mask: bits, other: bits });
const attribute = fc.constantFrom('user.one', 'user.two');
const how = fc.constantFrom<OpenFlags>('r', 'r+', 'r+', 'w', 'wx+', 'a+');
const allocation = fc.constantFrom<Allocation>('extend', 'keep', 'punch', 'zero');
const mode = fc.constantFrom(0o600, 0o755, 0o1770, 0o2775, 0o6755);

function of(weight: number, ops: Operation['op'] | readonly Operation['op'][], rest: object = {}) {
  const op = fc.constantFrom(...[ops].flat());
  return { weight, arbitrary: fc.record({ op, ...rest }) as fc.Arbitrary<Draft> };
}

const draft: fc.Arbitrary<Draft> = fc.oneof(
  of(8, MAKING.slice(0, 3), { path: fresh }),
  of(4, 'mkdir', { path: fresh }),
  of(1, 'fill', { path: fresh }),
  of(6, 'create', { path: fresh, text }),
  of(12, ON_PATH, { path: operand }),
  of(14, ['rename', 'rename', 'exchange', 'noreplace', 'link'], { path: operand, to: fc.oneof(operand, fresh) }),
  of(2, 'truncate', { path: operand, size }),
  of(3, 'chmod', { path: operand, mode }),
  of(2, 'chown', { path: operand, uid: id, gid: id }),
  of(3, 'utimes', { path: operand, mtime: fc.integer({ min: 0, max: 2_000_000_000 }) }),
  of(3, 'setxattr', {
    path: operand,
    name: attribute,
    text: fc.string({ maxLength: 9 }),
    flags: fc.constantFrom(0, 1, 2),
  }),
  of(2, ['getxattr', 'removexattr'], { path: operand, name: attribute }),
  of(2, 'setacl', { path: operand, which: fc.constantFrom('access', 'default'), acl }),
  of(5, 'open', { path: fc.oneof(operand, fresh), handle, how }),
  of(2, 'tmpfile', { path: operand, handle }),
  of(2, 'name', { handle, to: fresh }),
  of(8, ['write', 'mapwrite'], { handle, offset: size, text }),
  of(8, ['fread', 'fstat', 'close', 'fsync'], { handle }),
  of(2, 'ftruncate', { handle, size }),
  of(4, 'fallocate', { handle, how: allocation, offset: size, size: atLeastOne }),
  of(3, 'copy', { handle, from: handle, at: size, offset: size, size: atLeastOne }),
  of(2, 'opendir', { path: operand, listing }),
  of(6, 'list', { listing, bytes: fc.constantFrom(300, 700, 4096) }),
  of(1, ['rewind', 'closedir'], { listing }),
);

export function steps(count: number): fc.Arbitrary<Step[]> {
  const step = fc.record({ client: fc.nat({ max: 1 }), draft });
  return fc.array(step, { minLength: Math.ceil(count / 2), maxLength: count, size: 'max' });
}

/** What there is in the model, by path. */
export function nodesOf(model: ModelFilesystem): Map<string, Node> {
  const found = new Map<string, Node>();
  const visit = (node: Node, at: string) => {
    if (at !== '') found.set(at, node);
    if (node.kind !== 'directory') return;
    for (const [child, inner] of node.children) visit(inner, at === '' ? child : `${at}/${child}`);
  };
  visit(model.root, '');
  return found;
}

/** Chooses the paths of an operation from what the model has now. */
export function choose(model: ModelFilesystem, { path, to, ...rest }: Draft): Operation {
  const nodes = nodesOf(model);
  const known = [...nodes.keys()];
  const directories = ['', ...known.filter((at) => nodes.get(at)!.kind === 'directory')];
  const pick = ({ nth, below, inDirectory: proper }: Operand) => {
    if (below === undefined && known.length > 0) return known[nth % known.length]!;
    const among = proper || known.length === 0 ? directories : known;
    const directory = among[nth % among.length]!;
    return directory === '' ? (below ?? 'a') : `${directory}/${below ?? 'a'}`;
  };
  const chosen = { ...rest, ...(path && { path: pick(path) }), ...(to && { to: pick(to) }) } as Operation;
  return 'path' in chosen && !isSensible(chosen, nodes.get(chosen.path)) ? { op: 'lstat', path: chosen.path } : chosen;
}

/** Not what would wait for somebody at the other end of a fifo, nor what is of no use on this kind of file. */
function isSensible(operation: Extract<Operation, { path: string }>, node: Node | undefined): boolean {
  if (node === undefined) return true;
  const { op } = operation;
  if (node.kind === 'fifo')
    return !['open', 'read', 'truncate', 'readdir', 'opendir', 'tmpfile', 'setacl'].includes(op);
  if (op === 'open') return node.kind !== 'directory' || operation.how !== 'r';
  if (op === 'setacl') return node.kind === 'directory' || (node.kind === 'file' && operation.which === 'access');
  return true;
}
