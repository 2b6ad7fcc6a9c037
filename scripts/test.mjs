/**
 * `npm test [FILE…] [FLAG…]`: mocha over the files given, or over every test of the first three steps of the ladder.
 * The list is here and not in .mocharc.json, because mocha would add it to the files that are given.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

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

const args = process.argv.slice(2);
// Everything takes both CPUs: most tests wait for processes that they start.
if (!args.some((arg) => arg.startsWith('test/'))) {
  const files = new Set([...longest, ...globSync(everything, { cwd: root }).sort()]);
  args.unshift('--parallel', '--jobs', '2', ...files);
}
const mocha = fileURLToPath(import.meta.resolve('mocha/bin/mocha.js'));
const child = spawn(process.execPath, [...process.execArgv, mocha, ...args], { cwd: root, stdio: 'inherit' });
process.on('SIGINT', () => {});
child.on('exit', (code) => process.exit(code ?? 1));
