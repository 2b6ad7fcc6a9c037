/**
 * Which policy each function of the filesystem follows: mergerfs's categories and functions (its documentation, "Functions and their
 * Category classifications"), resolved once when a union is opened. What each setting does in a union, SEMANTICS.md tells;
 * `withoutEffect` tells it of those that do nothing here, so that none is accepted in silence.
 */
import { UnionFsError } from '../errors.ts';
import { isForEvery, isPolicyName, type PolicyName, policyNames } from './create.ts';
import { isFirstFound } from './search.ts';

export type Category = 'create' | 'action' | 'search';

export const policyFunctions = {
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
} as const satisfies Record<string, Category>;

export type FunctionName = keyof typeof policyFunctions;

/** A policy for each category, and for the functions that differ from their category. */
export interface PolicySettings {
  readonly create: string;
  readonly action: string;
  readonly search: string;
  readonly functions?: Readonly<Record<string, string>>;
}

export type Policies = Readonly<Record<FunctionName, PolicyName>>;

/** The policy of every function. Throws UnionFsError that names the setting. */
export function resolvePolicies(settings: PolicySettings): Policies {
  const { functions = {} } = settings;
  for (const name of Object.keys(functions))
    if (!Object.hasOwn(policyFunctions, name)) throw new UnionFsError('EINVAL', `no function ${name} has a policy`);
  const resolved = {} as Record<FunctionName, PolicyName>;
  for (const [name, category] of entriesOf(policyFunctions)) {
    const policy = functions[name] ?? settings[category];
    if (!isPolicyName(policy)) {
      const known = policyNames.join(' ');
      throw new UnionFsError('EINVAL', `unknown policy "${policy}" for ${name}; known are ${known}`);
    }
    resolved[name] = policy;
  }
  if (resolved.getattr === 'erofs')
    throw new UnionFsError('EINVAL', 'policy "erofs" for getattr would refuse every file; take another');
  return resolved;
}

/** Functions that are refused. The kernel never asks for `access` and `ioctl`. */
export function refusedFunctions(policies: Policies): readonly FunctionName[] {
  return entriesOf(policies).flatMap(([name, policy]) =>
    policy === 'erofs' && policyFunctions[name] !== 'create' ? [name] : [],
  );
}

/** A sentence for each setting that does not do here what it does in mergerfs. */
export function withoutEffect(settings: PolicySettings): readonly string[] {
  const { create, action, search, functions = {} } = settings;
  const sentences: string[] = [];
  if (isPolicyName(create) && isForEvery(create))
    sentences.push(`category.create=${create}: only directories are made on every branch; all else is made on one`);
  if (!isIdleAction(action)) sentences.push(`category.action=${action} has no effect: ${ONE_COPY}`);
  if (!isIdleSearch(search)) sentences.push(`category.search=${search}: ${DIRECTORIES_ALONE}`);
  for (const [name, policy] of Object.entries(functions)) {
    const why = isPolicyName(policy) ? whyIdle(name as FunctionName, policy) : undefined;
    if (why !== undefined) sentences.push(`func.${name}=${policy}${why}`);
  }
  return sentences;
}

const ONE_COPY = 'a file is on one branch, and a directory is changed on all of its branches';
const DIRECTORIES_ALONE = 'decides for directories alone; of files of one name the first branch’s shows';
/** Functions in which a search policy chooses between the copies of a directory. */
const CHOOSING: readonly FunctionName[] = ['getattr', 'getxattr', 'listxattr'];

function whyIdle(name: FunctionName, policy: PolicyName): string | undefined {
  const category = policyFunctions[name];
  if (category === 'create') {
    const isOne = name !== 'mkdir' && isForEvery(policy);
    return isOne ? ' has no effect: only directories are made on every branch; all else is made on one' : undefined;
  }
  if (name === 'access' || name === 'ioctl')
    return isIdleSearch(policy) ? undefined : ' has no effect: the kernel does not ask';
  if (category === 'action') return isIdleAction(policy) ? undefined : ` has no effect: ${ONE_COPY}`;
  if (isIdleSearch(policy) || policy === 'erofs') return undefined;
  return CHOOSING.includes(name)
    ? `: ${DIRECTORIES_ALONE}`
    : ' has no effect: the first branch’s file is the one that shows';
}

/** Says what is done in any case, or refuses. */
function isIdleAction(policy: string): boolean {
  return policy === 'all' || policy === 'epall' || policy === 'erofs';
}

function isIdleSearch(policy: string): boolean {
  return isPolicyName(policy) && isFirstFound(policy);
}

function entriesOf<K extends string, V>(record: Readonly<Record<K, V>>): readonly (readonly [K, V])[] {
  return Object.entries(record) as unknown as readonly (readonly [K, V])[];
}
