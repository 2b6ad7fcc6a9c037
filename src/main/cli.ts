/**
 * The dispatcher behind bin/union-csi: finds the command, loads its module and nothing else, runs it, and turns what it
 * throws into one line on stderr.
 *
 * A command is a module beside this one that exports `run(argv): Promise<number>`; the number is the exit code:
 * 0 done, 1 failed, 2 the command line is wrong. UNION_CSI_TRACE=1 adds the stack, for those who look for a bug.
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../base/errors.ts';
import { HelpAsked, suggestion, UsageError } from './flags.ts';

type Load = () => Promise<{ run(argv: string[]): Promise<number> }>;

interface Command {
  readonly summary: string;
  readonly load: Load;
}

/** For people. */
const commands: Readonly<Record<string, Command>> = {
  mount: {
    summary: 'mount a union of directories; needs no cluster',
    load: () => import('./mount.ts'),
  },
  where: {
    summary: 'on which branch a file of a mounted union is',
    load: () => import('./where.ts'),
  },
  status: {
    summary: 'how a mounted union and its branches are doing',
    load: () => import('./status.ts'),
  },
  branch: {
    summary: 'change the branches of a mounted union',
    load: () => import('./branch.ts'),
  },
  upgrade: {
    summary: 'have another server go on with a mounted union',
    load: () => import('./upgrade.ts'),
  },
  check: {
    summary: 'look for what is wrong on branches, and repair it',
    load: () => import('./check.ts'),
  },
  kubectl: {
    summary: 'unions of a cluster: status, df, where, …; as a plugin: kubectl union',
    load: () => import('./kubectl.ts'),
  },
  'block-serve': {
    summary: 'serve a block volume of this machine over NBD; needs no cluster',
    load: () => import('./block-serve.ts'),
  },
  'block-ca': {
    summary: 'make certificates for trying TLS between block replicas out',
    load: () => import('./block-ca.ts'),
  },
  start: {
    summary: 'a guided tour: cluster, union, pod, all on this machine',
    load: () => import('./start.ts'),
  },
  cluster: {
    summary: 'run the embedded cluster, for trying things out and for tests',
    load: () => import('./cluster.ts'),
  },
};

/** For pods, and what these start. */
const roles: Readonly<Record<string, Load>> = {
  controller: () => import('./controller.ts'),
  node: () => import('./node.ts'),
  server: () => import('./server.ts'),
  feeder: () => import('./feeder.ts'),
  release: () => import('./release.ts'),
  'block-controller': () => import('./block-controller.ts'),
  'block-node': () => import('./block-node.ts'),
  'block-keeper': () => import('./block-keeper.ts'),
  'block-attach': () => import('./block-attach.ts'),
};

function loaderOf(name: string): Load | undefined {
  if (Object.hasOwn(commands, name)) return commands[name]!.load;
  return Object.hasOwn(roles, name) ? roles[name] : undefined;
}

function help(): string {
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(13)}${summary}`);
  return [
    'usage: union-csi COMMAND [FLAGS]',
    '',
    'Unions of volumes: one filesystem out of several, on Kubernetes and on a single machine.',
    '',
    ...lines,
    '',
    `Run in pods of Kubernetes: ${Object.keys(roles).join(', ')}`,
    'union-csi COMMAND --help tells the flags of a command.',
    '',
  ].join('\n');
}

/** Runs one command line and returns its exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const command = name === 'help' ? rest[0] : undefined;
    if (command !== undefined) return await main([command, '--help']);
    process.stdout.write(help());
    return name === undefined ? 2 : 0;
  }
  const load = loaderOf(name);
  if (load === undefined) {
    const hint = suggestion(name, [...Object.keys(commands), ...Object.keys(roles), 'help']) || '; see union-csi help';
    process.stderr.write(`union-csi: unknown command ${name}${hint}\n`);
    return 2;
  }
  try {
    const { run } = await load();
    return await run(rest);
  } catch (error) {
    if (error instanceof HelpAsked) {
      process.stdout.write(error.help);
      return 0;
    }
    process.stderr.write(`union-csi ${name}: ${messageOf(error)}\n`);
    if (process.env.UNION_CSI_TRACE && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  // Not process.exitCode: a command that returned is done, whatever handles its libraries still hold.
  process.exit(await main(process.argv.slice(2)));
}
