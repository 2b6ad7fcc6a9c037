/** The guided tour as a person starts it, interrupts it, kills it, and gives it what it cannot use. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { expectNoLeaks } from '../../support/leaks.ts';
import { killed } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';

const launcher = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('union-csi start', () => {
  let folder: string;
  const started: ChildProcess[] = [];

  before(function () {
    needs(this, fuse, loop);
  });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 's-'));
  });

  afterEach(async () => {
    for (const child of started.splice(0)) await killed(child);
    await expectNoLeaks(folder);
    rmSync(folder, { recursive: true });
  });

  /** A tour in a temporary directory of this test's own; `seen` resolves when its output has a text. */
  function start(...flags: string[]) {
    const env = { ...process.env, TMPDIR: folder };
    const child = spawn(launcher, ['start', ...flags], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    started.push(child);
    let output = '';
    const exited = once(child, 'close');
    const watchers = new Set<() => void>();
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk;
        for (const watch of watchers) watch();
      });
    const seen = (text: string) =>
      new Promise<void>((resolve, reject) => {
        const watch = () => {
          if (output.includes(text)) resolve();
        };
        watchers.add(watch);
        watch();
        void exited.then(() => reject(new Error(`ended without "${text}": ${output}`)));
      });
    const end = async () => {
      const [code] = await exited;
      return { code: code as number | null, output };
    };
    return { child, seen, end };
  }

  const own = () => join(folder, 'union-csi-start');

  it('shows a union from class to pod, with what is on each branch, and removes all of it', async () => {
    const { code, output } = await start('--once').end();
    expect(code, output).to.equal(0);
    expect(output).to.match(/claim data becomes a union of lower volumes .*b0:fast b1:fast b2:large/);
    expect(output).to.match(/from cluster start to running pod: \d+\.\d s/);
    expect(output).to.match(/BRANCH +CLASS +SIZE +USED +FILES\n +b0 +fast +\d+ MiB/);
    expect(output).to.match(/create 5000 files: +\d+ a second/);
    expect(existsSync(own())).to.equal(false);
  });

  for (const moment of [
    'start the embedded cluster',
    'apply ',
    'becomes a union',
    'runs, with the union',
    'Three things',
  ])
    it(`leaves nothing behind when it is interrupted after "${moment}"`, async () => {
      const { child, seen, end } = start();
      await seen(moment);
      child.kill('SIGINT');
      const { code, output } = await end();
      expect(code, output).to.equal(0);
      expect(existsSync(own())).to.equal(false);
    });

  it('cleans up what a killed tour left', async () => {
    const { child, seen } = start();
    await seen('runs, with the union');
    await killed(child);
    expect(existsSync(own())).to.equal(true);
    const next = start();
    await next.seen('apply ');
    next.child.kill('SIGINT');
    const { code, output } = await next.end();
    expect(code, output).to.equal(0);
    expect(existsSync(own())).to.equal(false);
  });

  it('keeps a directory that it was given, and goes on there', async () => {
    const dir = join(folder, 'kept');
    for (const round of [1, 2]) {
      const { child, seen, end } = start('--dir', dir);
      await seen('runs, with the union');
      child.kill('SIGINT');
      expect((await end()).code, `round ${round}`).to.equal(0);
    }
    expect(existsSync(join(dir, 'api'))).to.equal(true);
  });

  it('names file, line and column of a syntax error', async () => {
    const manifests = join(folder, 'manifests');
    mkdirSync(manifests);
    writeFileSync(join(manifests, 'claim.yaml'), 'kind: Pod\nmetadata: {name: x\nspec: 1\n');
    const { code, output } = await start('--once', '--apply', manifests).end();
    expect(code).to.equal(1);
    expect(output).to.match(/union-csi start: .*manifests\/claim\.yaml:3:\d+: /);
  });

  it('says what is missing from manifests that show nothing', async () => {
    const empty = join(folder, 'empty');
    mkdirSync(empty);
    expect((await start('--apply', empty).end()).output).to.include(`${empty} has no YAML files`);
    writeFileSync(join(empty, 'claim.yaml'), 'apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n');
    expect((await start('--apply', empty).end()).output).to.include(`${empty} has no pod; the tour shows one`);
  });
});
