/**
 * `npm run test:kubernetes [FILE…]`: the tests of this folder against a real Kubernetes of three nodes on this machine. On one that
 * cannot have such nodes (cluster/check.sh), and without root, they are skipped, loudly.
 * Builds what is missing (programs, images), brings the cluster up (cluster/run.sh) and runs mocha inside of it.
 * UNION_CSI_TOOLS is where built programs and images are kept, KEEP_LOGS a directory for the cluster's logs.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { program, root as rootUser } from '../support/skip.ts';

const NODES = 3;
const PROGRAMS = ['buildah', 'busybox', 'go', 'ip', 'mmdebstrap', 'nft', 'nsenter', 'openssl', 'runc', 'unshare'];

const here = import.meta.dirname;
const project = fileURLToPath(new URL('../..', import.meta.url));
const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
const tools = process.env.UNION_CSI_TOOLS ?? join(cache, 'union-csi-tools/kubernetes');

const notRoot = rootUser();
if (notRoot !== undefined) skip(notRoot);
const missing = PROGRAMS.flatMap((name) => program(name)() ?? []);
if (missing.length > 0) {
  process.stderr.write(
    `the tests on a real Kubernetes cannot run here: ${missing.join(', ')}; see ${here}/README.md\n`,
  );
  process.exit(1);
}
const { stdout: lacking } = spawnSync(join(here, 'cluster/check.sh'), { encoding: 'utf8' });
if (lacking !== '') skip(`lacks:\n${lacking.trim()}`);

const given = process.argv.slice(2);
/** In this order: `block` needs three nodes and costs one, `power` another, and the last one looks at what all made the driver ask for. */
const order = ['life', 'examples', 'adoption', 'upkeep', 'failures', 'many', 'sanity', 'block', 'power', 'rbac'];
const all = order.map((name) => `test/kubernetes/${name}.test.ts`);
const files = given.length > 0 ? given : all;
const mocha = [process.execPath, join(project, 'node_modules/mocha/bin/mocha.js')];
const flags = [
  '--require',
  join(here, 'support/deploy.ts'),
  '--timeout',
  '240000',
  '--reporter',
  join(here, 'support/reporter.mjs'),
  // Which mocha has where CI is set, although a log is read.
  '--no-color',
];

await step('programs', [join(here, 'cluster/build.sh'), tools]);
await step('images', [join(here, 'images/build.sh'), tools]);
await step('tests', [
  join(here, 'cluster/run.sh'),
  tools,
  String(NODES),
  'env',
  '-C',
  project,
  ...mocha,
  ...flags,
  ...files,
]);

function skip(why: string): never {
  process.stdout.write(`SKIPPED, all of it: a real Kubernetes cannot run on this machine, it ${why}\n`);
  process.stdout.write('0 passed, 0 failed, 1 skipped\n');
  process.exit(0);
}

/** In a process group of its own, which is ended as a whole: whoever ends us wants no cluster to stay behind. */
async function step(name: string, [command = '', ...args]: readonly string[]): Promise<void> {
  process.stdout.write(`\n${name}\n`);
  const env = { ...process.env, IMAGES: join(tools, 'images'), NODE_OPTIONS: '--disable-warning=ExperimentalWarning' };
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], env, detached: true });
  const end = () => void process.kill(-child.pid!, 'SIGTERM');
  process.on('SIGTERM', end).on('SIGINT', end);
  const [status] = await once(child, 'exit');
  process.off('SIGTERM', end).off('SIGINT', end);
  if (status !== 0) process.exit(status ?? 1);
}
