import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { type BranchMode, closeBranches, inodeTags, openBranches } from '../../../fuse/branch/branches.ts';
import { UnionFsError } from '../../../fuse/errors.ts';

describe('branches', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'union-unit-'));
    for (const name of ['a', 'b']) mkdirSync(join(folder, name));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  const branch = (id: string, mode: BranchMode = 'RW') => ({ id, path: join(folder, id), mode, minFreeSpaceBytes: 0 });
  const open = (branches: Parameters<typeof openBranches>[0], volume?: string) =>
    closeBranches(openBranches(branches, volume));
  const failure = (action: () => void) => {
    try {
      action();
    } catch (error) {
      if (error instanceof UnionFsError) return error;
      throw error;
    }
    throw new Error('nothing was thrown');
  };

  it('get a record of their volume, that only root reads, and are known by it afterwards', () => {
    open([branch('a'), branch('b')], 'volume-1');
    const file = join(folder, 'a/.union/branch.json');
    expect(JSON.parse(readFileSync(file, 'utf8'))).to.deep.equal({
      volumeId: 'volume-1',
      branchId: 'a',
      generation: 1,
    });
    expect(statSync(join(folder, 'a/.union')).mode & 0o777).to.equal(0o700);
    open([branch('b'), branch('a')], 'volume-1');
  });

  it('of another volume are refused, and both are named', () => {
    open([branch('a')], 'volume-1');
    const error = failure(() => open([branch('a')], 'volume-2'));
    expect(error.code).to.equal('FOREIGN_BRANCH');
    expect(error.message)
      .to.include('branch a of volume volume-2')
      .and.include('branch a of volume volume-1')
      .and.include(folder);
    expect(() => open([branch('a', 'RO')], 'volume-2')).to.throw('volume-1');
  });

  it('that changed places are refused', () => {
    open([branch('a'), branch('b')], 'volume-1');
    const swapped = { ...branch('a'), path: join(folder, 'b') };
    expect(failure(() => open([swapped], 'volume-1')).message).to.include('belongs to branch b of volume volume-1');
  });

  it('without identity are left as they are, and so are read-only ones', () => {
    open([branch('a')]);
    open([branch('b', 'RO')], 'volume-1');
    for (const name of ['a', 'b']) expect(existsSync(join(folder, name, '.union'))).to.equal(false);
  });

  for (const [name, text] of [
    ['is empty', ''],
    ['is no JSON', '{"volumeId":'],
    ['is JSON of another shape', '{"volumeId":1}'],
    ['is null', 'null'],
  ] as const) {
    it(`with a record that ${name} are refused rather than taken`, () => {
      mkdirSync(join(folder, 'a/.union'));
      writeFileSync(join(folder, 'a/.union/branch.json'), text);
      const error = failure(() => open([branch('a')], 'volume-1'));
      expect([error.code, error.message]).to.satisfy(
        ([code, message]: string[]) => code === 'EIO' && message!.includes(join(folder, 'a/.union/branch.json')),
      );
    });
  }

  it('that are missing, or no directories, are named', () => {
    writeFileSync(join(folder, 'file'), '');
    for (const [id, code] of [
      ['missing', 'ENOENT'],
      ['file', 'ENOTDIR'],
    ] as const) {
      const error = failure(() => open([branch('a'), branch(id)]));
      expect(error.code).to.equal(code);
      expect(error.message).to.include(`branch ${id}`).and.include(join(folder, id));
    }
  });

  it('are opened all or none: descriptors of the first are closed when a later one fails', () => {
    const count = () => readFileSync('/proc/self/status', 'utf8') && statSync('/proc/self/fd').nlink;
    const before = count();
    for (let round = 0; round < 20; round++) expect(() => open([branch('a'), branch('missing')])).to.throw('missing');
    expect(count()).to.equal(before);
  });

  it('are at least one and at most 64', () => {
    expect(() => open([])).to.throw('at least one');
    expect(() => open(Array.from({ length: 65 }, () => branch('a')))).to.throw('65 branches given, at most 64');
  });

  it('have tags for inode numbers that are distinct, positive below 2^15, and not a matter of order', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string(), { minLength: 1, maxLength: 64 }), fc.integer(), (ids, seed) => {
        const tags = inodeTags(ids);
        expect(new Set(tags).size).to.equal(ids.length);
        for (const tag of tags) expect(tag).to.be.within(1, 32_767);
        const shuffled = ids
          .map((id, index) => ({ id, order: (index * 31 + seed) % 17 }))
          .sort((a, b) => a.order - b.order);
        const again = new Map(shuffled.map(({ id }, index) => [id, inodeTags(shuffled.map((one) => one.id))[index]]));
        expect(ids.map((id) => again.get(id))).to.deep.equal(tags);
      }),
      { numRuns: 50 },
    );
  });

  it('that cannot be written say what to do', () => {
    if (process.getuid?.() === 0) {
      // Root writes anywhere but below a file.
      writeFileSync(join(folder, 'a/.union'), '');
      expect(failure(() => open([branch('a')], 'volume-1')).message).to.include(
        'make the branch writable or give it mode RO',
      );
      return;
    }
    chmodSync(join(folder, 'a'), 0o555);
    expect(failure(() => open([branch('a')], 'volume-1')).message).to.include('give it mode RO');
  });
});
