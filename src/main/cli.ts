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
import { suggestion, UsageError } from './flags.ts';

interface Command {
  readonly summary: string;
  readonly load: () => Promise<{ run(argv: string[]): Promise<number> }>;
}

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
  'block-controller': {
    summary: 'CSI controller service of block volumes (a Deployment)',
    load: () => import('./block-controller.ts'),
  },
  'block-node': {
    summary: 'replicas and CSI node service of block volumes (a DaemonSet)',
    load: () => import('./block-node.ts'),
  },
  'block-attach': {
    summary: 'serve an attached block volume; started by block-node',
    load: () => import('./block-attach.ts'),
  },
  start: {
    summary: 'a guided tour: cluster, union, pod, all on this machine',
    load: () => import('./start.ts'),
  },
  cluster: {
    summary: 'run the embedded cluster, for trying things out and for tests',
    load: () => import('./cluster.ts'),
  },
  controller: {
    summary: 'CSI controller service and reconcilers (a Deployment)',
    load: () => import('./controller.ts'),
  },
  node: {
    summary: 'CSI node service (a DaemonSet)',
    load: () => import('./node.ts'),
  },
  server: {
    summary: 'serve one union (a pod for each volume and node)',
    load: () => import('./server.ts'),
  },
  feeder: {
    summary: 'lend a branch to a server that was started before it was added (a pod)',
    load: () => import('./feeder.ts'),
  },
  release: {
    summary: 'take a union off a branch that is given back (a pod)',
    load: () => import('./release.ts'),
  },
};

function help(): string {
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(18)}${summary}`);
  return [
    'usage: union-csi COMMAND [FLAGS]',
    '',
    'Unions of volumes: one filesystem out of several, on Kubernetes and on a single machine.',
    '',
    ...lines,
    '',
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
  if (!Object.hasOwn(commands, name)) {
    const hint = suggestion(name, [...Object.keys(commands), 'help']) || '; see union-csi help';
    process.stderr.write(`union-csi: unknown command ${name}${hint}\n`);
    return 2;
  }
  try {
    const { run } = await commands[name]!.load();
    return await run(rest);
  } catch (error) {
    process.stderr.write(`union-csi ${name}: ${messageOf(error)}\n`);
    if (process.env.UNION_CSI_TRACE && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  // Not process.exitCode: a command that returned is done, whatever handles its libraries still hold.
  process.exit(await main(process.argv.slice(2)));
}
