/**
 * Files that move from branch to branch while others work with them. MOVING_MS makes it longer; seeds are printed when it fails.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { makeLoopBranches } from '../../support/loop-branches.ts';
import { getXattr, numbersIn, setXattr } from '../../support/posix.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { describeTree, mergeTrees, readTree } from '../../support/tree.ts';
import { makeUnion, mountUnion, type TestUnion } from '../../support/union-mount.ts';
import { BLOCK_BYTES, blockAt } from '../../support/write-client.ts';

const mebibyte = 1024 ** 2;
const durationMs = Number(process.env.MOVING_MS ?? 1000);
const firstSeed = Number(process.env.MOVING_SEED ?? Date.now() % 1_000_000);
const program = (name: string) => fileURLToPath(new URL(`../../support/${name}`, import.meta.url));

/** What a program complained of, or ''; and what it printed. */
async function run(name: string, ...args: readonly string[]): Promise<{ complaint: string; output: string }> {
  const child = spawn(process.execPath, [program(name), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(durationMs + 60_000),
    killSignal: 'SIGKILL',
  });
  let [complaint, output] = ['', ''];
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code, signal] = await once(child, 'close').catch(() => [1, 'no answer in time']);
  return {
    complaint: code === 0 ? '' : `${name} ${args.join(' ')} ended with ${signal ?? code}: ${complaint}`,
    output,
  };
}

describe('a file that moves', function () {
  this.timeout(durationMs + 120_000);
  let union: TestUnion;

  before(function () {
    needs(this, fuse, loop);
  });

  beforeEach(async () => {
    union = await makeUnion({
      sizesBytes: [32 * mebibyte, 32 * mebibyte, 32 * mebibyte],
      // What is open past the server cannot move.
      library: { passthrough: false, create: 'rand', readers: 3 },
    });
  });

  afterEach(async () => {
    await union.close();
  });

  it('has all that four writers wrote at once, two of them by mappings', async () => {
    const file = join(union.mountpoint, 'file');
    writeFileSync(file, '');
    const [writers, blocks] = [4, 250];
    truncateSync(file, writers * blocks * BLOCK_BYTES);
    let running = writers;
    const ends = Array.from({ length: writers }, (_, writer) =>
      run(
        'write-client.ts',
        file,
        String(writer),
        String(writers),
        String(blocks),
        writer < 2 ? 'map' : 'write',
      ).finally(() => running--),
    );
    const { ino } = statSync(file, { bigint: true });
    let moves = 0;
    for (; running > 0; moves++) {
      setXattr(file, 'trusted.union.branch', union.branches[moves % 3]!);
      expect(statSync(file, { bigint: true }).ino).to.equal(ino);
      await setImmediate();
    }
    const complaints = (await Promise.all(ends)).map(({ complaint }) => complaint).join('');
    expect(complaints + union.complaints()).to.equal('');
    expect(moves).to.be.greaterThan(3);
    // Not through the union, whose pages are in the kernel's cache.
    const content = readFileSync(join(getXattr(file, 'trusted.union.branch'), 'file'));
    expect(content.length).to.equal(writers * blocks * BLOCK_BYTES);
    for (let index = 0; index < writers * blocks; index++) {
      const block = content.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
      if (!block.equals(blockAt(index))) throw new Error(`block ${index} is lost`);
    }
  });

  it(`is renamed, linked, removed, opened and truncated by others as ever, from seed ${firstSeed}`, async () => {
    const { mountpoint, branches, complaints } = union;
    writeFileSync(join(mountpoint, 'kept'), ''); // there is always something to move
    const clients = [0, 1, 2].map((index) =>
      run('hammer-client.ts', mountpoint, String(firstSeed + index * 7919), String(durationMs)),
    );
    const movers = [3, 4].map((index) =>
      run('move-client.ts', mountpoint, String(firstSeed + index * 7919), JSON.stringify(branches), String(durationMs)),
    );
    const ended = await Promise.all([...clients, ...movers]);
    expect(ended.map(({ complaint }) => complaint).join('') + complaints()).to.equal('');
    const moves = (await Promise.all(movers)).reduce((sum, mover) => sum + Number(mover.output), 0);
    expect(moves).to.be.greaterThan(0);
    expect(describeTree(readTree(mountpoint))).to.deep.equal(describeTree(mergeTrees(branches.map(readTree))));
    for (const branch of branches) {
      const left = readdirSync(join(branch, '.union')).filter(
        (name) => name !== 'numbers' && !name.startsWith('open-'),
      );
      expect(left).to.deep.equal([]);
    }
  });

  it('is renamed, linked and unlinked without an error by who is alone in that', async () => {
    const { mountpoint, branches } = union;
    const at = (turn: number) => join(mountpoint, `d${turn % 2}`, `name-${turn % 3}`);
    for (const name of ['d0', 'd1']) mkdirSync(join(mountpoint, name));
    writeFileSync(at(0), 'content');
    let running = true;
    const mover = run('move-client.ts', mountpoint, String(firstSeed), JSON.stringify(branches), String(durationMs));
    const ended = mover.finally(() => {
      running = false;
    });
    let turn = 0;
    for (; running; turn++) {
      renameSync(at(turn), at(turn + 1));
      linkAgain(at(turn + 1), join(mountpoint, 'link'));
      unlinkSync(join(mountpoint, 'link'));
      expect(readFileSync(at(turn + 1), 'utf8')).to.equal('content');
      await setImmediate();
    }
    const { complaint, output } = await ended;
    expect(complaint + union.complaints()).to.equal('');
    expect(Number(output)).to.be.greaterThan(0);
    expect(statSync(at(turn)).nlink).to.equal(1);
  });

  it('is in every listing of its directory, once, under one number', async () => {
    const { mountpoint, branches } = union;
    const names = Array.from({ length: 60 }, (_, index) => `file-${index}`);
    for (const name of names) writeFileSync(join(mountpoint, name), name);
    const numbers = new Map(names.map((name) => [name, lstatSync(join(mountpoint, name), { bigint: true }).ino]));
    let running = true;
    const mover = run('move-client.ts', mountpoint, String(firstSeed), JSON.stringify(branches), String(durationMs));
    const ended = mover.finally(() => {
      running = false;
    });
    for (let turn = 0; running; turn++) {
      // Something new, so that the kernel asks for the listing again.
      writeFileSync(join(mountpoint, 'turn'), String(turn));
      const listed = numbersIn(mountpoint);
      for (const name of names) expect(listed.get(name), `${name} in turn ${turn}`).to.equal(numbers.get(name));
      expect(readdirSync(mountpoint).filter((name) => name.startsWith('file-'))).to.have.length(names.length);
      await setImmediate();
    }
    const { complaint, output } = await ended;
    expect(complaint + union.complaints()).to.equal('');
    expect(Number(output)).to.be.greaterThan(0);
  });
});

/**
 * Links, if need be once more after a stat. When the mover asks for a file's attributes while one of its two names is unlinked, Linux takes
 * the name off a count that is without it already (fuse_entry_unlinked) and refuses to link a file with none until it has asked anew.
 */
function linkAgain(existing: string, name: string): void {
  try {
    linkSync(existing, name);
  } catch {
    expect(statSync(existing).nlink).to.equal(1);
    linkSync(existing, name);
  }
}

describe('a file that moves when its server is killed', () => {
  before(function () {
    needs(this, fuse, loop);
  });

  it('is whole, under all of its names and on one branch, when the union is mounted again', async () => {
    const { paths: branches, folder, close } = makeLoopBranches([32 * mebibyte, 32 * mebibyte, 32 * mebibyte]);
    const mountpoint = join(folder, 'union');
    mkdirSync(mountpoint);
    const mount = () => mountUnion({ branches, mountpoint, library: { passthrough: false, create: 'rand' } });
    let union = await mount();
    try {
      for (const name of names) writeFileSync(join(mountpoint, name), contentOf(name));
      mkdirSync(join(mountpoint, 'links'));
      for (const name of names) linkSync(join(mountpoint, name), join(mountpoint, 'links', name));
      for (let round = 0; round < 2; round++) {
        const mover = run('move-client.ts', mountpoint, String(firstSeed + round), JSON.stringify(branches), '60000');
        await delay(500 + Math.random() * 500); // whenever: that is the point
        process.kill(union.pid, 'SIGKILL');
        expect((await mover).complaint).to.match(/ENOTCONN|ECONNABORTED/);
        await union.close().catch((error: unknown) => expect(String(error)).to.include('SIGKILL'));
        union = await mount();
        for (const path of names.flatMap((name) => [name, join('links', name)])) {
          expect(readFileSync(join(mountpoint, path)).equals(contentOf(basename(path))), path).to.equal(true);
          expect(statSync(join(mountpoint, path)).nlink, path).to.equal(2);
          expect(
            branches.filter((branch) => existsSync(join(branch, path))),
            path,
          ).to.have.length(1);
        }
      }
    } finally {
      await union.close();
      close();
    }
  });
});

const names = Array.from({ length: 12 }, (_, index) => `file-${index}`);

/** Different in each file. */
function contentOf(name: string): Buffer {
  return Buffer.alloc(100_000, `${name} `);
}
