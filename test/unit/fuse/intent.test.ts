import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { type BranchOptions, closeBranches, openBranches } from '../../../fuse/branch/branches.ts';
import { finishIntents, type IntentStep, type Place, writeIntent } from '../../../fuse/branch/intent.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;
const EXCHANGE = 2;

/** How far a rename got before the crash: after 0, 1, 2 or all of its steps. */
const CRASHES = [0, 1, 2, 3];

describe('intent log', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(3);
  });

  afterEach(() => driver.close());

  const on = (branch: number, ...names: string[]) => join(driver.paths[branch]!, ...names);
  const inode = (path: string) => String(statSync(path, { bigint: true }).ino);
  const place = (...names: string[]): Place => names.map((name) => Buffer.from(name).toString('base64'));
  const options = (): BranchOptions[] =>
    driver.paths.map((path, index) => ({ id: `b${index}`, path, mode: 'RW', minFreeSpaceBytes: 0 }));

  /** As after a crash: the intent was written, `perform` did a part of it; then the union is opened again. */
  function crash(steps: readonly IntentStep[], perform: () => void): void {
    mkdirSync(on(0, '.union'), { recursive: true });
    const branches = openBranches(options(), undefined);
    try {
      writeIntent(branches[0]!, steps);
      perform();
      finishIntents(branches);
      finishIntents(branches); // nothing is left to be done
    } finally {
      closeBranches(branches);
    }
    expect(readdirSync(on(0, '.union'))).to.deep.equal([]);
  }

  for (const done of CRASHES)
    it(`renames a directory on every branch after a crash behind step ${done}`, () => {
      for (const branch of [0, 1, 2]) {
        mkdirSync(on(branch, 'old'));
        mkdirSync(on(branch, 'into'));
        writeFileSync(on(branch, 'old', `file${branch}`), '');
      }
      const steps = [0, 1, 2].map((branch): IntentStep => {
        const ino = inode(on(branch, 'old'));
        return { kind: 'move', branch: `b${branch}`, from: place('old'), to: place('into', 'new'), ino };
      });
      crash(steps, () => {
        for (let branch = 0; branch < done; branch++) renameSync(on(branch, 'old'), on(branch, 'into', 'new'));
      });
      for (const branch of [0, 1, 2]) {
        expect(readdirSync(on(branch))).to.not.include('old');
        expect(readdirSync(on(branch, 'into', 'new'))).to.deep.equal([`file${branch}`]);
      }
    });

  for (const done of CRASHES.slice(0, 3))
    it(`leaves only the new file of a name after a crash behind step ${done}`, () => {
      writeFileSync(on(1, 'new'), 'new');
      writeFileSync(on(0, 'name'), 'replaced');
      const steps: IntentStep[] = [
        { kind: 'move', branch: 'b1', from: place('new'), to: place('name'), ino: inode(on(1, 'new')) },
        { kind: 'remove', branch: 'b0', at: place('name'), ino: inode(on(0, 'name')) },
      ];
      crash(steps, () => {
        if (done > 0) renameSync(on(1, 'new'), on(1, 'name'));
        if (done > 1) renameSync(on(0, 'name'), on(0, 'gone'));
      });
      expect(existsSync(on(0, 'name'))).to.equal(false);
      expect(existsSync(on(1, 'new'))).to.equal(false);
      expect(statSync(on(1, 'name')).size).to.equal(3);
    });

  it('does not touch another file that has the name by now', () => {
    writeFileSync(on(0, 'name'), 'somebody else');
    crash([{ kind: 'remove', branch: 'b0', at: place('name'), ino: '1' }], () => {});
    expect(existsSync(on(0, 'name'))).to.equal(true);
  });

  it('names the intent and the branch that it cannot be completed without', () => {
    mkdirSync(on(0, '.union'));
    const branches = openBranches(options(), undefined);
    const path = writeIntent(branches[0]!, [{ kind: 'remove', branch: 'b7', at: place('name'), ino: '1' }]);
    expect(() => finishIntents(branches)).to.throw(
      `cannot complete what ${path} records: branch b7 is missing; mount the union with all its branches`,
    );
    expect(existsSync(path)).to.equal(true);
    closeBranches(branches);
  });

  it('is written before the first branch is changed, and removed after the last', () => {
    for (const branch of [0, 1]) mkdirSync(on(branch, 'old'));
    const node = driver.lookup(ROOT, 'old');
    expect(node).to.be.greaterThan(0);
    expect(driver.ask(OP.RENAME, ROOT, [ROOT, 0, 'old', 'new']).result).to.equal(0);
    expect([0, 1].map((branch) => existsSync(on(branch, 'new')))).to.deep.equal([true, true]);
    expect(readdirSync(on(0, '.union'))).to.deep.equal([]);
  });

  it('is not written for what one rename does', () => {
    writeFileSync(on(1, 'file'), '');
    expect(driver.ask(OP.RENAME, ROOT, [ROOT, 0, 'file', 'other']).result).to.equal(0);
    expect(existsSync(on(1, '.union'))).to.equal(false);
  });

  it('lets files of different branches change places', () => {
    writeFileSync(on(0, 'one'), '1');
    writeFileSync(on(1, 'two'), '22');
    expect(driver.ask(OP.RENAME2, ROOT, [ROOT, 0, EXCHANGE, 0, 'one', 'two']).result).to.equal(0);
    expect([statSync(on(0, 'two')).size, statSync(on(1, 'one')).size]).to.deep.equal([1, 2]);
    expect(readdirSync(on(0, '.union'))).to.deep.equal([]);
  });
});
