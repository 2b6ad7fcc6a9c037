/**
 * One branch of three breaks, in the ways in which filesystems break, and comes back: its files have errors, everything else
 * goes on, and nothing that may be on it is said not to exist.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { eventually } from '../../support/eventually.ts';
import { codeOf, damage, mountImage, shutDown } from '../../support/faults.ts';
import { imageOf, isInUse, makeLoopBranches, runProgram, unmount } from '../../support/loop-branches.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';
import { healthOf } from '../../support/union-status.ts';

const mebibyte = 1024 ** 2;

describe('a union with a broken branch', () => {
  let union: TestUnion | undefined;
  /** Names in the directory `d`, by branch. */
  let names: readonly (readonly string[])[];
  const path = (name: string) => join(union!.mountpoint, name);

  before(function () {
    needs(this, fuse, loop);
  });

  beforeEach(async () => {
    union = await makeUnion({
      sizesBytes: [64, 64, 64].map((size) => size * mebibyte),
      library: { volumeId: 'volume', create: 'rand', patience: { slowMs: 1_000, hangingMs: 3_000, maxWaiting: 4 } },
      // Not known when the branch breaks, unlike `d`, which is made through the union.
      prepare: (branches) => {
        for (const branch of branches) mkdirSync(join(branch, 'old'));
        writeFileSync(join(branches[0]!, 'old/first'), 'first');
        writeFileSync(join(branches[1]!, 'old/second'), 'second');
      },
    });
    mkdirSync(path('d'));
    for (let i = 0; i < 40; i++) writeFileSync(path(`d/f${i}`), `${i}`);
    names = union.branches.map((branch) => readdirSync(join(branch, 'd')).sort());
  });

  afterEach(async () => {
    await union?.close();
    union = undefined;
  });

  const untilHealth = (health: string) =>
    eventually(`the first branch is ${health}`, async () => (await healthOf(union!))[0]!.health === health);
  const onFirst = () => path(`d/${names[0]![0]}`);
  const onSecond = () => path(`d/${names[1]![0]}`);
  const textOf = (file: string) => readFileSync(file, 'utf8');

  /** What must be so whatever is wrong with the first branch. */
  function expectOthersGoOn(): void {
    expect(textOf(onSecond())).to.equal(names[1]![0]!.slice(1));
    for (let i = 0; i < 20; i++) writeFileSync(path(`d/new${i}`), 'new');
    mkdirSync(path('d/made/below'), { recursive: true });
    rmdirSync(path('d/made/below'));
    expect(statSync(path('.')).isDirectory()).to.equal(true);
    for (const branch of union!.branches.slice(0, 1))
      if (codeOf(() => readdirSync(join(branch, 'd'))) === 'none')
        expect(readdirSync(join(branch, 'd')).filter((name) => name.startsWith('new'))).to.deep.equal([]);
  }

  function expectIsOut(): void {
    expect(codeOf(() => textOf(onFirst()))).to.equal('EIO');
    expect(codeOf(() => writeFileSync(onFirst(), 'x'))).to.equal('EIO');
    expectOthersGoOn();
    // All names of `d` are known, those of `old` are not.
    expect(readdirSync(path('d'))).to.include.members(names.flat());
    expect(codeOf(() => readdirSync(path('old')))).to.equal('EIO');
    expect(textOf(path('old/second'))).to.equal('second');
    expect(codeOf(() => statSync(path('old/first')))).to.equal('EIO');
    expect(codeOf(() => statSync(path('old/nowhere')))).to.equal('EIO');
    expect(codeOf(() => writeFileSync(path('old/first'), 'again'))).to.equal('EIO');
    // Neither is changed on some of its branches only.
    expect(codeOf(() => utimesSync(path('old'), 1, 1))).to.equal('EIO');
    expect(codeOf(() => rmdirSync(path('old')))).to.equal('EIO');
  }

  function expectIsBack(): void {
    for (const branch of names) for (const name of branch) expect(textOf(path(`d/${name}`))).to.equal(name.slice(1));
    expect(readdirSync(path('old')).sort()).to.deep.equal(['first', 'second']);
    expect(textOf(path('old/first'))).to.equal('first');
    expect(codeOf(() => statSync(path('old/nowhere')))).to.equal('ENOENT');
    const onFirstBranch = () => readdirSync(join(union!.branches[0]!, 'd')).filter((name) => name.startsWith('back'));
    for (let i = 0; i < 40; i++) writeFileSync(path(`d/back${i}`), '');
    expect(onFirstBranch()).not.to.deep.equal([]);
  }

  it('that was shut down: errors for its files alone, until it is mounted again', async () => {
    const [first] = union!.branches as [string];
    // To the disk: what was not written would be lost with the filesystem.
    runProgram('sync', ['-f', first]);
    shutDown(first);
    expect(codeOf(() => textOf(onFirst()))).to.equal('EIO');
    await untilHealth('failing');
    expectIsOut();
    expect((await healthOf(union!))[0]!.message).to.include(first);

    runProgram('umount', ['--lazy', first]);
    // As long as anybody holds the filesystem, mounting its device shows the same broken one.
    await eventually('the device is free', () => !isInUse(imageOf(first)));
    mountImage(imageOf(first), first);
    await untilHealth('ok');
    expectIsBack();
  }).timeout(60_000);

  it('that was unmounted, and comes back with files that nobody knew of; another in its place is left alone', async () => {
    const [first] = union!.branches as [string];
    const other = makeLoopBranches([32 * mebibyte]);
    try {
      runProgram('umount', ['--lazy', first]);
      await untilHealth('gone');
      expectIsOut();

      mkdirSync(join(other.paths[0]!, '.union'));
      const record = { volumeId: 'another', branchId: 'b7', generation: 1 };
      writeFileSync(join(other.paths[0]!, '.union/branch.json'), JSON.stringify(record));
      runProgram('mount', ['--bind', other.paths[0]!, first]);
      await untilHealth('foreign');
      expect((await healthOf(union!))[0]!.message)
        .to.include('holds branch b7 of volume another')
        .and.include('expected is branch b0 of volume volume');
      expect(codeOf(() => textOf(onFirst()))).to.equal('EIO');
      unmount(first);

      mountImage(imageOf(first), first);
      await untilHealth('ok');
      expectIsBack();
    } finally {
      other.close();
    }
  }).timeout(60_000);

  it('that takes no changes any more: its files are read, and new ones made elsewhere', async () => {
    const [first] = union!.branches as [string];
    runProgram('mount', ['-o', 'remount,errors=remount-ro', first]);
    damage(first);
    // Before anybody has noticed.
    for (let i = 0; i < 20; i++) writeFileSync(path(`d/early${i}`), 'new');
    await untilHealth('read-only');
    expectOthersGoOn();
    expect(textOf(onFirst())).to.equal(names[0]![0]!.slice(1));
    expect(codeOf(() => writeFileSync(onFirst(), 'x'))).to.equal('EROFS');
    expect(readdirSync(path('old')).sort()).to.deep.equal(['first', 'second']);
  }).timeout(60_000);
});
