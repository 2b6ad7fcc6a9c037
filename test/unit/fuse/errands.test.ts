/** How the threads of errands end. */
import { spawnSync } from 'node:child_process';
import { expect } from 'chai';

/** Runs before each thread's own code, which it keeps from starting for longer than a branch is waited for. */
const slowStart = `
  import { isMainThread } from 'node:worker_threads';
  if (!isMainThread) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);`;

const program = `
  const { State } = await import(process.argv[1] + 'inode/state.ts');
  const { MAIN_THREAD } = await import(process.argv[1] + 'inode/layout.ts');
  const { resolvePolicies } = await import(process.argv[1] + 'policy/functions.ts');
  const { Errands } = await import(process.argv[1] + 'transport/errands.ts');
  const policies = resolvePolicies({ create: 'ff', action: 'ff', search: 'ff' });
  const config = { policies, passthrough: false, cache: 'exclusive', readOnly: false };
  const log = { error: console.error, warn: console.error };
  const errands = new Errands({ state: State.create(MAIN_THREAD), config, log: { current: log } });
  errands.run({ kind: 'change', branch: { root: -1, path: '' } }).catch(() => {});
  console.log(await errands.close());`;

describe('the threads of errands', () => {
  it('are waited for while they only start, however slow the machine is', () => {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [
        ...['--disable-warning=ExperimentalWarning', '--import', dataUrl(slowStart)],
        ...['--eval', program, new URL('../../../fuse/', import.meta.url).href],
      ],
      { encoding: 'utf8' },
    );
    expect({ stdout, stderr }).to.deep.equal({ stdout: 'true\n', stderr: '' });
  });
});

function dataUrl(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`;
}
