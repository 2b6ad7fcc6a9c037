import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { releaseBranch } from '../../../fuse/index.ts';

describe('releaseBranch', () => {
  let branch: string;
  const own = (name = '') => join(branch, '.union', name);

  beforeEach(() => {
    branch = mkdtempSync(join(tmpdir(), 'union-release-'));
    mkdirSync(own());
    writeFileSync(own('branch.json'), JSON.stringify({ volumeId: 'uv-1', branchId: 'b0', generation: 1 }));
    writeFileSync(join(branch, 'file'), 'text');
  });

  afterEach(() => rmSync(branch, { recursive: true }));

  it('removes all that is ours, and can be repeated', () => {
    for (const name of ['branch.json.new', 'numbers', 'open-12-3', 'intent-x.json.new', 'move-4-x'])
      writeFileSync(own(name), '');
    mkdirSync(own('dir-1'));
    expect(releaseBranch(branch, 'uv-1')).to.deep.equal([]);
    expect(readdirSync(branch)).to.deep.equal(['file']);
    expect(releaseBranch(branch, 'uv-1')).to.deep.equal([]);
  });

  it('keeps files that were set aside, unfinished intents and strangers', () => {
    for (const name of ['hidden-x-letter', 'intent-x.json', 'note']) writeFileSync(own(name), '');
    mkdirSync(own('dir-full'));
    writeFileSync(own('dir-full/file'), '');
    expect([...releaseBranch(branch, 'uv-1')].sort()).to.deep.equal([
      ...['dir-full', 'hidden-x-letter', 'intent-x.json', 'note'],
    ]);
    expect(existsSync(own('branch.json'))).to.equal(false);
  });

  it("refuses another union's branch", () => {
    expect(() => releaseBranch(branch, 'uv-2')).to.throw('is a branch of union uv-1, not of uv-2; its records stay');
    expect(existsSync(own('branch.json'))).to.equal(true);
  });
});
