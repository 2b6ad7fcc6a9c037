/**
 * The YAML list of branches: of the StorageClass parameter `branchTemplates`, and of the annotation
 * `union.csi.dev/branches` on an upper claim, where an item may also adopt an existing claim.
 * Invariant: a list that parses has 1 to MAX_BRANCHES branches in all, known keys only, and sizes that can add up.
 * Source: kubernetes.md, section 1. Errors are messages for people; the caller puts the list's origin in front.
 */
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from 'yaml';
import { nearest } from '../base/nearest.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type Bytes, formatBytes, parseQuantity } from '../base/units.ts';
import type { BranchMode } from './resources.ts';

/** As many as the union filesystem's records have bits for. */
export const MAX_BRANCHES = 64;
/** Smaller than this, no filesystem holds its own metadata, the union's records and a file. */
export const MIN_BRANCH_BYTES = 16n * 1024n * 1024n;

/** How large each branch of a template is: a fixed size, a share of the requested capacity, or what the others leave. */
export type BranchSize =
  | { readonly kind: 'bytes'; readonly bytes: Bytes }
  | { readonly kind: 'percent'; readonly basisPoints: bigint }
  | { readonly kind: 'rest' };

export interface BranchTemplate {
  readonly kind: 'template';
  readonly storageClassName: string;
  readonly count: number;
  /** Of each of the `count` branches. */
  readonly size: BranchSize;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes?: Bytes;
}

export interface AdoptedClaim {
  readonly kind: 'claim';
  /** A claim of the upper claim's own namespace. */
  readonly claim: string;
  readonly mode: BranchMode;
  readonly grow: boolean;
  readonly shared: boolean;
  readonly minFreeSpaceBytes?: Bytes;
}

export type BranchItem = BranchTemplate | AdoptedClaim;

const TEMPLATE_KEYS = ['storageClassName', 'count', 'size', 'mode', 'minFreeSpace'] as const;
const CLAIM_KEYS = ['claim', 'mode', 'minFreeSpace', 'grow', 'shared'] as const;
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** Parses the list; `claims` says whether items may adopt claims. */
export function parseBranchList(text: string, claims: 'allowed' | 'refused'): Result<readonly BranchItem[], string> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problem = document.errors[0];
  if (problem) return err(`${position(lines, problem.pos[0])}: ${problem.message.replace(/\.$/, '')}`);
  if (!isSeq(document.contents)) {
    return err('must be a list; start each branch with "- ", such as "- {storageClassName: fast, count: 2}"');
  }
  const items: BranchItem[] = [];
  for (const node of document.contents.items as Node[]) {
    const where = position(lines, node.range?.[0] ?? 0);
    if (!isMap(node)) return err(`${where}: a branch must be a map such as {storageClassName: fast, count: 2}`);
    const item = parseItem(node, claims);
    if (!item.ok) return err(`${where}: ${item.error}`);
    items.push(item.value);
  }
  const whole = checkWhole(items);
  return whole.ok ? ok(items) : whole;
}

function position(lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `line ${line}, column ${col}`;
}

function parseItem(node: YAMLMap, claims: 'allowed' | 'refused'): Result<BranchItem, string> {
  const fields = new Map<string, unknown>();
  for (const { key, value } of node.items) {
    const plain = isScalar(value) ? value.value : value;
    fields.set(String(isScalar(key) ? key.value : key), plain ?? undefined);
  }
  const adopts = fields.has('claim') || (claims === 'allowed' && !fields.has('storageClassName'));
  const known: readonly string[] = adopts ? CLAIM_KEYS : TEMPLATE_KEYS;
  for (const key of fields.keys()) {
    if (known.includes(key)) continue;
    if (adopts && (TEMPLATE_KEYS as readonly string[]).includes(key)) {
      return err(`"${key}" belongs to new branches and "claim" to existing ones; use one of the two in a branch`);
    }
    const guess = nearest(key, known);
    return err(`unknown key "${key}"${guess ? `; did you mean "${guess}"?` : `; known are ${known.join(', ')}`}`);
  }
  if (!adopts) return parseTemplate(fields);
  if (claims === 'refused') {
    return err(
      `"claim" adopts a claim, which only the annotation on the upper claim can do; use storageClassName here`,
    );
  }
  return parseAdopted(fields);
}

function parseTemplate(fields: ReadonlyMap<string, unknown>): Result<BranchTemplate, string> {
  const storageClassName = parseName(fields.get('storageClassName'), 'storageClassName', 'a storage class');
  if (!storageClassName.ok) return storageClassName;
  const count = parseCount(String(fields.get('count') ?? 1), 'count');
  if (!count.ok) return count;
  const size = parseSize(fields.get('size'));
  if (!size.ok) return size;
  const mode = parseMode(fields.get('mode'));
  if (!mode.ok) return mode;
  if (mode.value === 'RO') return err('mode RO makes no sense for a new, empty branch; use RW or NC');
  const minFreeSpace = parseOptionalSize(fields.get('minFreeSpace'), 'minFreeSpace');
  if (!minFreeSpace.ok) return minFreeSpace;
  return ok({
    kind: 'template',
    storageClassName: storageClassName.value,
    count: count.value,
    size: size.value,
    mode: mode.value,
    ...(minFreeSpace.value === undefined ? {} : { minFreeSpaceBytes: minFreeSpace.value }),
  });
}

function parseAdopted(fields: ReadonlyMap<string, unknown>): Result<AdoptedClaim, string> {
  const given = fields.get('claim');
  if (given === undefined) return err('a branch needs "claim" (an existing claim) or "storageClassName" (a new one)');
  if (typeof given === 'string' && given.includes('/')) {
    return err(
      `claim "${given}" is in another namespace; only claims of the upper claim's own namespace can be adopted`,
    );
  }
  const claim = parseName(given, 'claim', 'a claim');
  if (!claim.ok) return claim;
  const mode = parseMode(fields.get('mode'));
  if (!mode.ok) return mode;
  const grow = parseBoolean(fields.get('grow'), 'grow');
  if (!grow.ok) return grow;
  const shared = parseBoolean(fields.get('shared'), 'shared');
  if (!shared.ok) return shared;
  const minFreeSpace = parseOptionalSize(fields.get('minFreeSpace'), 'minFreeSpace');
  if (!minFreeSpace.ok) return minFreeSpace;
  return ok({
    kind: 'claim',
    claim: claim.value,
    mode: mode.value,
    grow: grow.value,
    shared: shared.value,
    ...(minFreeSpace.value === undefined ? {} : { minFreeSpaceBytes: minFreeSpace.value }),
  });
}

function parseName(value: unknown, key: string, what: string): Result<string, string> {
  if (typeof value !== 'string' || !NAME.test(value)) return err(`${key} "${show(value)}" is not a name of ${what}`);
  return ok(value);
}

/** A number of branches, 1 to MAX_BRANCHES. */
export function parseCount(text: string, key: string): Result<number, string> {
  const count = /^-?\d{1,9}$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (Number.isNaN(count)) return err(`${key} "${text}" is not a whole number; use 1 to ${MAX_BRANCHES}`);
  if (count < 1) return err(`${key} is ${count}; a union needs at least 1 branch`);
  if (count > MAX_BRANCHES) return err(`${key} is ${count}; a union has at most ${MAX_BRANCHES} branches`);
  return ok(count);
}

function parseSize(value: unknown): Result<BranchSize, string> {
  if (value === undefined) return ok({ kind: 'rest' });
  const text = show(value).trim();
  const percent = /^(\d{1,3})(?:\.(\d{1,2}))?\s*%$/.exec(text);
  if (percent) {
    const basisPoints = BigInt(percent[1]!) * 100n + BigInt((percent[2] ?? '').padEnd(2, '0'));
    if (basisPoints === 0n || basisPoints > 10_000n) return err(`size ${text} must be above 0% and at most 100%`);
    return ok({ kind: 'percent', basisPoints });
  }
  const bytes = parseQuantity(text);
  if (!bytes.ok) return err(`size ${bytes.error}, or a share such as 20%`);
  if (bytes.value < MIN_BRANCH_BYTES) {
    return err(`size ${text} is smaller than the smallest branch, ${formatBytes(MIN_BRANCH_BYTES)}; raise it`);
  }
  return ok({ kind: 'bytes', bytes: bytes.value });
}

function parseMode(value: unknown): Result<BranchMode, string> {
  if (value === undefined) return ok('RW');
  if (value === 'RW' || value === 'RO' || value === 'NC') return ok(value);
  return err(`mode "${show(value)}" is unknown; use RW, RO (read only) or NC (no new files)`);
}

function parseBoolean(value: unknown, key: string): Result<boolean, string> {
  if (value === undefined) return ok(false);
  return typeof value === 'boolean' ? ok(value) : err(`${key} "${show(value)}" must be true or false`);
}

/** A size or nothing; `key` begins the message. */
export function parseOptionalSize(value: unknown, key: string): Result<Bytes | undefined, string> {
  if (value === undefined) return ok(undefined);
  const bytes = parseQuantity(show(value));
  return bytes.ok ? bytes : err(`${key} ${bytes.error}`);
}

function show(value: unknown): string {
  return typeof value === 'object' ? JSON.stringify(value) : String(value ?? '');
}

function checkWhole(items: readonly BranchItem[]): Result<void, string> {
  if (items.length === 0) return err('is empty; a union needs at least 1 branch');
  const total = items.reduce((sum, item) => sum + (item.kind === 'template' ? item.count : 1), 0);
  if (total > MAX_BRANCHES) return err(`has ${total} branches in all; a union has at most ${MAX_BRANCHES}`);
  const seen = new Set<string>();
  for (const item of items) {
    if (item.kind !== 'claim') continue;
    if (seen.has(item.claim)) return err(`claim "${item.claim}" is listed twice; a claim can be one branch only`);
    seen.add(item.claim);
  }
  return checkShares(items);
}

/** Shares must not pass 100%, and must reach it when nothing else can make up the difference. */
function checkShares(items: readonly BranchItem[]): Result<void, string> {
  let basisPoints = 0n;
  let onlyShares = true;
  for (const item of items) {
    if (item.kind === 'template' && item.size.kind === 'percent') {
      basisPoints += item.size.basisPoints * BigInt(item.count);
    } else {
      onlyShares = false;
    }
  }
  const sum = `${Number(basisPoints) / 100}%`;
  if (basisPoints > 10_000n) {
    return err(`sizes add up to ${sum} (size times count of each branch); they must not pass 100%`);
  }
  if (onlyShares && basisPoints < 10_000n) {
    return err(`sizes add up to ${sum}, not 100% (size times count of each); leave one size out to take the rest`);
  }
  return ok(undefined);
}
