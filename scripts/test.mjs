/**
 * `npm test [FILE…] [FLAG…]`: mocha over the files given, or over every test of the first three steps of the ladder.
 * The list is here and not in .mocharc.json, because mocha would add it to the files that are given.
 */
import { spawn } from 'node:child_process';
import { chmodSync, globSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sweep } from '../test/support/sweep.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const everything = ['test/*.test.ts', 'test/{unit,property,transcript,sim,integration}/**/*.test.ts'];

/** These take longest: they begin first, so that no job has one of them left when the other has done all there is. */
const longest = [
  'test/integration/system/kill-steps.test.ts',
  'test/integration/system/rpc.test.ts',
  'test/property/filesystem.test.ts',
  'test/integration/fuse/rename.test.ts',
  'test/integration/fuse/takeover.test.ts',
  'test/unit/fuse/killed.test.ts',
  'test/sim/sim.test.ts',
];

/** Workers, and servers of which the mount has just gone, take a moment to end. */
const GRACE_MS = 10_000;

const args = process.argv.slice(2);
// Everything takes both CPUs: most tests wait for processes that they start.
if (!args.some((arg) => arg.startsWith('test/'))) {
  const files = new Set([...longest, ...globSync(everything, { cwd: root }).sort()]);
  args.unshift('--parallel', '--jobs', '2', ...files);
}
const mocha = fileURLToPath(import.meta.resolve('mocha/bin/mocha.js'));
const TMPDIR = mkdtempSync(join(tmpdir(), 'ut-'));
chmodSync(TMPDIR, 0o755); // tests act as other users too
const child = spawn(process.execPath, [...process.execArgv, mocha, ...args], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, TMPDIR },
});
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', async (code) => {
  const left = await sweep(TMPDIR, code === 0 ? GRACE_MS : 0);
  if (left.length > 0)
    process.stderr.write(`Left behind, and taken away:\n${left.map((line) => `  ${line}\n`).join('')}`);
  process.exit(code === 0 && left.length > 0 ? 1 : (code ?? 1));
});
