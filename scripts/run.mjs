/**
 * Runs one of the project's programs with the project's own Node: `node scripts/run.mjs FILE ARGUMENTS…`.
 *
 * Plain JavaScript for Node 18 and later, because it is what `npm start` and `npm test` begin with in a fresh clone on a
 * machine that has only npm and an older Node. It installs what package-lock.json names when that is not what is in
 * node_modules, and makes sure of the right Node, which comes as the npm package `node`.
 *
 * Install scripts of packages are never run: npm 12 refuses them unless they are allowed, older ones run them all, and
 * here the same happens everywhere. Only the package `node` needs its own, to fetch the binary, and it is started below.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const modules = join(root, 'node_modules');
const node = join(modules, 'node/bin/node');
/** npm's progress is for people; what it prints must not mix with the output of the program. */
const progress = ['ignore', 2, 2];

const [file, ...args] = process.argv.slice(2);
if (file === undefined) fail('usage: node scripts/run.mjs FILE [ARGUMENT…]');

install();
run(node, ['--disable-warning=ExperimentalWarning', join(root, file), ...args]);

function install() {
  const state = installed();
  if (state !== 'current') {
    process.stderr.write(state === 'missing' ? 'installing dependencies\n' : 'updating dependencies\n');
    // `ci` begins with an empty node_modules, `install` changes only what differs.
    npm([state === 'missing' ? 'ci' : 'install']);
  }
  if (existsSync(node)) return;
  process.stderr.write('fetching Node\n');
  const script = join(modules, 'node/installArchSpecificPackage.js');
  const { status } = spawnSync(process.execPath, [script], {
    cwd: join(modules, 'node'),
    env: npmEnvironment(),
    stdio: progress,
  });
  if (status !== 0 || !existsSync(node)) fail('could not fetch Node from the npm registry; see the lines above');
}

/** Compares what the lock file asks for with npm's own record of what it installed. Packages for other machines are optional. */
function installed() {
  const record = join(modules, '.package-lock.json');
  if (!existsSync(record)) return 'missing';
  const actual = packagesOf(record);
  for (const [path, wanted] of Object.entries(packagesOf(join(root, 'package-lock.json')))) {
    if (path === '' || wanted.optional || wanted.peer) continue;
    if (actual[path]?.version !== wanted.version) return 'stale';
  }
  return 'current';
}

function packagesOf(lockFile) {
  return JSON.parse(readFileSync(lockFile, 'utf8')).packages;
}

function npm(command) {
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const { status, error } = spawnSync('npm', [...command, ...flags], {
    cwd: root,
    env: npmEnvironment(),
    stdio: progress,
  });
  if (error) fail(`could not start npm: ${error.message}`);
  if (status !== 0) fail(`npm ${command.join(' ')} failed; see the lines above`);
}

/** An npm started by npm must not take over which folder the outer one works on. */
function npmEnvironment() {
  const { npm_config_local_prefix: _, ...environment } = process.env;
  return environment;
}

function run(command, commandArgs) {
  const path = [join(modules, 'node/bin'), join(modules, '.bin'), process.env.PATH].join(delimiter);
  // As bin/union-csi does: types stripped and code compiled once, for this program and those that it starts.
  const cache = process.env.NODE_COMPILE_CACHE ?? join(modules, '.cache/union-csi');
  const env = { ...process.env, PATH: path, NODE_COMPILE_CACHE: cache };
  const child = spawn(command, commandArgs, { stdio: 'inherit', env });
  // A terminal sends Ctrl-C to the child too; it decides how to end, and this process follows it.
  process.on('SIGINT', () => {});
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => fail(`could not start ${command}: ${error.message}`));
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 128 + constants.signals[signal]));
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
