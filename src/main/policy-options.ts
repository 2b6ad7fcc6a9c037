/**
 * `category.…=POLICY` and `func.…=POLICY`: mergerfs's options for where new files go and which copy counts (its documentation,
 * "Functions, Categories and Policies"). As there, they count in their order, and a category sets all of its functions.
 */
import type { PolicySettings } from '../../fuse/index.ts';
import { suggestion, UsageError } from './flags.ts';

type Category = 'create' | 'action' | 'search';

/** The filesystem's functions (fuse/policy; a test compares the lists: the command line is read without the filesystem). */
export const FUNCTIONS: Readonly<Record<string, Category>> = {
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
};

export function isPolicyOption(name: string): boolean {
  return name.startsWith('category.') || name.startsWith('func.');
}

/** Policies by category and function. Throws UsageError for what is none of them; whether a policy exists, `checkPolicies` says. */
export function policiesOf(options: readonly (readonly [name: string, policy: string])[]): PolicySettings {
  const categories = { create: 'pfrd', action: 'epall', search: 'ff' }; // mergerfs's defaults
  const functions = new Map<string, string>();
  for (const [option, policy] of options) {
    const name = option.slice(option.indexOf('.') + 1);
    if (option.startsWith('func.')) {
      checkFunction(name);
      functions.set(name, policy);
      continue;
    }
    const category = categoryOf(name);
    categories[category] = policy;
    for (const known of functions.keys()) if (FUNCTIONS[known] === category) functions.delete(known);
  }
  for (const [name, policy] of functions) if (policy === categories[FUNCTIONS[name]!]) functions.delete(name);
  return { ...categories, functions: Object.fromEntries(functions) };
}

/** Throws UsageError that names the option and the nearest policy. */
export function checkPolicies(settings: PolicySettings, known: readonly string[]): void {
  for (const [option, policy] of settingsOf(settings)) {
    if (known.includes(policy)) continue;
    throw new UsageError(
      `unknown policy ${option}=${policy}${suggestion(policy, known) || `; known are ${known.join(' ')}`}`,
    );
  }
}

/** What is said of policies beyond the defaults of action and search, as options; `category.create` in any case. */
export function policyOptions(settings: PolicySettings): readonly string[] {
  return settingsOf(settings)
    .map(([option, policy]) => `${option}=${policy}`)
    .filter((option) => option !== 'category.action=epall' && option !== 'category.search=ff');
}

/** Each policy by the option that sets it, those of functions last. */
function settingsOf({ create, action, search, functions = {} }: PolicySettings): readonly [string, string][] {
  return [
    ...Object.entries({ create, action, search }).map(([name, policy]): [string, string] => [
      `category.${name}`,
      policy,
    ]),
    ...Object.entries(functions).map(([name, policy]): [string, string] => [`func.${name}`, policy]),
  ];
}

function categoryOf(name: string): Category {
  if (name === 'create' || name === 'action' || name === 'search') return name;
  const hint = suggestion(name, ['create', 'action', 'search'], 'category.');
  throw new UsageError(`unknown option category.${name}${hint || '; categories are create, action and search'}`);
}

function checkFunction(name: string): void {
  if (name === 'readdir') {
    throw new UsageError('func.readdir is an option of mergerfs alone; leave it out: listings come from memory');
  }
  if (Object.hasOwn(FUNCTIONS, name)) return;
  throw new UsageError(
    `unknown option func.${name}${suggestion(name, Object.keys(FUNCTIONS), 'func.') || '; see --help'}`,
  );
}
