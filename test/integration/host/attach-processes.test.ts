/** What the two processes of an attached volume say to each other, without a volume. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect } from 'chai';

const module = new URL('../../../src/host/block/attach-processes.ts', import.meta.url);

const LIMIT_MS = 60_000;

/** Prints whether it is wanted. */
const WAITER = `const { isWanted, LEAVE_SIGNAL } = await import('${module}');
  const leaving = new AbortController();
  process.on(LEAVE_SIGNAL, () => leaving.abort());
  process.stdout.write(String(await isWanted(leaving.signal)));`;

/** What the process that waits makes of it when the one that serves has it started, does `then`, and is killed. */
async function wanted(how: { readonly isAlone: boolean; readonly then: string }): Promise<string> {
  const holder = `const { LEAVE_SIGNAL, Waiting } = await import('${module}');
    const { spawn } = await import('node:child_process');
    const stdio = ['ignore', 'inherit', 'inherit'];
    let child;
    const start = ([, channel]) => {
      child = spawn(process.execPath, ['-e', ${JSON.stringify(WAITER)}], { stdio: [...stdio, channel] });
    };
    const options = { device: 1, isAlone: ${how.isAlone}, start };
    const until = async (holds) => {
      while (!holds()) await new Promise((resolve) => waiting.news.addEventListener('abort', resolve));
    };
    let waiting;
    ${how.then}
    process.kill(process.pid, 'SIGKILL');`;
  // Its end is that of both, which write to the same pipe.
  const ended = promisify(execFile)(process.execPath, ['-e', holder], { timeout: LIMIT_MS, killSignal: 'SIGKILL' });
  const { stdout, stderr } = await ended.catch((error: { stdout: string; stderr: string }) => error);
  expect(stderr).to.equal('');
  return stdout;
}

describe('the process that waits for one that serves an attached volume', () => {
  const cases = [
    ['serves when that one ends', true, 'waiting = await Waiting.start(options);', 'true'],
    [
      'ends with it while another one waits too',
      false,
      'waiting = await Waiting.start(options); await until(() => waiting.isReady);',
      'false',
    ],
    [
      'serves when that other one had ended',
      false,
      'waiting = await Waiting.start(options); await until(() => waiting.isReady); waiting.release();',
      'true',
    ],
    ['ends when it is told to', true, 'waiting = await Waiting.start(options); await waiting.end();', 'false'],
    [
      'ends when it was given up before it began',
      true,
      'await Waiting.start({ ...options, start: (all) => { start(all); throw new Error(); } }).catch(() => {});',
      'false',
    ],
    [
      'asks to be let go when its container is about to end, and serves if it is not',
      true,
      `waiting = await Waiting.start(options); await until(() => waiting.isReady);
       child.kill(LEAVE_SIGNAL); await until(() => waiting.isLeaving);`,
      'true',
    ],
  ] as const;
  for (const [behaviour, isAlone, then, answer] of cases) {
    it(behaviour, async () => expect(await wanted({ isAlone, then })).to.equal(answer));
  }
});
