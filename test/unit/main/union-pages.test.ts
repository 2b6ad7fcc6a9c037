import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { copiesOf, unionPages } from '../../../src/main/union-pages.ts';

describe('pages of a union server', () => {
  let root: string;
  let branches: { id: string; path: string }[];

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'union-pages-'));
    branches = ['b0', 'b1', 'b2'].map((id) => ({ id, path: join(root, id) }));
    for (const { path } of branches) mkdirSync(join(path, '.union'), { recursive: true });
    for (const id of ['b1', 'b2']) mkdirSync(join(root, id, 'both'));
    writeFileSync(join(root, 'b2/both/file'), 'text');
    writeFileSync(join(root, 'b0/hides'), '');
    mkdirSync(join(root, 'b1/hides'));
    writeFileSync(join(root, 'b2/.union/branch.json'), '{}');
    symlinkSync('/', join(root, 'b0/out'));
  });

  afterEach(() => rmSync(root, { recursive: true }));

  const where = async (path: string) => (await copiesOf(path, branches)).map(({ branch, kind }) => `${branch} ${kind}`);

  it('find a file on its branch, and a directory on all of its', async () => {
    expect(await where('both/file')).to.deep.equal(['b2 file']);
    expect(await where('/both/')).to.deep.equal(['b1 directory', 'b2 directory']);
    expect(await where('')).to.deep.equal(['b0 directory', 'b1 directory', 'b2 directory']);
  });

  it('do not show what an earlier branch hides', async () => {
    expect(await where('hides')).to.deep.equal(['b0 file']);
  });

  it('never leave the branches, nor show their records', async () => {
    expect(await where('out')).to.deep.equal(['b0 link']);
    for (const path of ['out/etc', 'out/etc/passwd', '../..', 'both/../../b2', '.union/branch.json', './.union']) {
      expect(await where(path), path).to.deep.equal([]);
    }
  });

  it('tell places of files only to who knows the UID of the pod', async () => {
    const pages = unionPages({ volumeId: 'v', podUid: 'secret', status: async () => undefined });
    const statusFor = async (query: string) => (await pages['/where'](new URLSearchParams(query))).status;
    expect(await statusFor('path=x')).to.equal(403);
    expect(await statusFor('path=x&pod=guess')).to.equal(403);
    expect(await statusFor('path=x&pod=secret')).to.equal(503);
    const open = unionPages({ volumeId: 'v', podUid: undefined, status: async () => undefined });
    expect((await open['/where'](new URLSearchParams('pod=undefined'))).status).to.equal(403);
  });
});
