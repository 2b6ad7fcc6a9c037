/** What a check finds on branches, how it is told, and what a repair does. On plain directories: nothing is mounted. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { type CheckedBranch, describeFinding, type Finding } from '../../../src/host/branch-check/findings.ts';
import { repairFinding } from '../../../src/host/branch-check/repair.ts';
import { type ScanCount, scanBranches } from '../../../src/host/branch-check/scan.ts';

const MINUTE_MS = 60_000;

describe('branch check', () => {
  let folder: string;
  let branches: CheckedBranch[];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'union-check-'));
    branches = ['a', 'b', 'c'].map((name) => ({ path: join(folder, name), writable: true }));
    for (const { path } of branches) mkdirSync(path);
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  const put = (path: string, content = '') => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  };
  const directory = (path: string, mode = 0o755) => {
    mkdirSync(join(folder, path), { recursive: true });
    chmodSync(join(folder, path), mode);
  };
  const scan = (later = 0): { findings: readonly Finding[]; count: ScanCount } => {
    const count = { directories: 0, files: 0 };
    return { findings: [...scanBranches(branches, count, Date.now() + later)], count };
  };
  /** Each finding's line, with the test's folder left out. */
  const lines = (later = 0) => scan(later).findings.map((one) => describeFinding(one).replaceAll(`${folder}/`, ''));
  const repair = (later = 0) => scan(later).findings.map((one) => repairFinding(one)?.replaceAll(`${folder}/`, ''));

  it('finds nothing where directories merge and names differ', () => {
    put('a/d/one');
    put('b/d/two');
    put('c/three');
    directory('c/lost+found');
    put('b/lost+found/x');
    expect(scan()).to.deep.equal({ findings: [], count: { directories: 2, files: 3 } });
  });

  it('finds names on several branches that do not merge', () => {
    put('a/d/file', 'x');
    put('c/d/file', 'y');
    directory('b/name');
    put('a/name');
    symlinkSync('nowhere', join(folder, 'c/name'));
    expect(lines()).to.deep.equal([
      '/d/file: the file on a shows and hides the file on c; rename or remove one of them on its branch',
      '/name: the file on a shows and hides the directory on b and the link on c; rename or remove one of them on its branch',
    ]);
  });

  it('merges directories around a file that they hide', () => {
    put('a/d/x');
    put('b/d');
    put('c/d/x');
    expect(lines()).to.deep.equal([
      '/d: the directory on a shows and hides the file on b; rename or remove one of them on its branch',
      '/d/x: the file on a shows and hides the file on c; rename or remove one of them on its branch',
    ]);
  });

  it('does not look into what is hidden', () => {
    put('a/d');
    put('b/d/x');
    put('c/d/x');
    expect(lines()).to.have.length(1);
  });

  it('tells names apart that are not UTF-8', () => {
    for (const [branch, byte] of [
      ['a', 0xff],
      ['b', 0xfe],
    ] as const) {
      writeFileSync(Buffer.concat([Buffer.from(join(folder, branch, 'n')), Buffer.from([byte])]), '');
    }
    expect(scan()).to.deep.equal({ findings: [], count: { directories: 1, files: 2 } });
  });

  it('finds copies of a directory with another mode, and gives them that of the first', () => {
    directory('a/d', 0o755);
    directory('b/d', 0o1700);
    expect(lines()).to.deep.equal([
      '/d: mode 1700 owner 0:0 on b, but the union shows mode 0755 owner 0:0'.replaceAll('0:0', owner()),
    ]);
    expect(repair()).to.deep.equal([`changed b/d from mode 1700 owner ${owner()} to mode 0755 owner ${owner()}`]);
    expect(statSync(join(folder, 'b/d')).mode & 0o7777).to.equal(0o755);
    expect(lines()).to.deep.equal([]);
  });

  it('compares the roots too', () => {
    chmodSync(branches[2]!.path, 0o700);
    expect(lines())
      .to.have.length(1)
      .and.to.match(/^\/: mode 0700/);
  });

  it('leaves read-only branches as they are', () => {
    directory('a/d', 0o755);
    directory('b/d', 0o700);
    branches[1] = { ...branches[1]!, writable: false };
    expect(repair()).to.deep.equal([undefined]);
    expect(statSync(join(folder, 'b/d')).mode & 0o7777).to.equal(0o700);
  });

  it('removes empty remains of a killed server when they are old enough to be remains', () => {
    directory('a/.union/dir-12-34');
    put('a/.union/branch.json.new', '{"volu');
    expect(lines()).to.deep.equal([]);
    expect(lines(2 * MINUTE_MS)).to.deep.equal([
      'a/.union/branch.json.new: left by a server that was killed; nothing is lost with it',
      'a/.union/dir-12-34: left by a server that was killed; nothing is lost with it',
    ]);
    expect(repair(2 * MINUTE_MS)).to.deep.equal(['removed a/.union/branch.json.new', 'removed a/.union/dir-12-34']);
    expect(readdirSync(join(folder, 'a/.union'))).to.deep.equal([]);
  });

  it('removes the copy of a file that did not begin to move, but not what an intent needs', () => {
    put('a/.union/move-12-34', 'copy');
    put('a/.union/numbers');
    put('b/.union/move-12-35', 'copy');
    put('b/.union/intent-1.json', '[]');
    expect(lines()).to.deep.equal([]);
    const [draft, intent, ...others] = lines(2 * MINUTE_MS);
    expect(draft).to.equal('a/.union/move-12-34: left by a server that was killed; nothing is lost with it');
    expect(intent).to.match(/^b\/.union\/intent-1.json: what a server began on several branches at .*mount the union/);
    expect(others).to.deep.equal([]);
    expect(repair(2 * MINUTE_MS)).to.deep.equal(['removed a/.union/move-12-34', undefined]);
    expect(readdirSync(join(folder, 'b/.union')).sort()).to.deep.equal(['intent-1.json', 'move-12-35']);
  });

  it('keeps whatever under .union/ holds something', () => {
    put('a/.union/hidden-1-x', 'content');
    put('b/.union/dir-12-34/file');
    put('c/.union/notes');
    const day = new Date().toISOString().slice(0, 10);
    expect(lines(2 * MINUTE_MS)).to.deep.equal([
      `a/.union/hidden-1-x: 7 B, hidden by another file of its name until ${day}; move it where it belongs, or remove it`,
      'b/.union/dir-12-34: not made by a union; move it to another place',
      'c/.union/notes: not made by a union; move it to another place',
    ]);
    expect(repair(2 * MINUTE_MS)).to.deep.equal([undefined, undefined, undefined]);
    for (const path of ['a/.union/hidden-1-x', 'b/.union/dir-12-34/file', 'c/.union/notes'])
      expect(existsSync(join(folder, path)), path).to.equal(true);
  });

  describe('of records', () => {
    const record = (branch: string, volumeId: string, branchId: string) =>
      put(`${branch}/.union/branch.json`, JSON.stringify({ volumeId, branchId, generation: 1 }));

    it('finds nothing on the branches of one volume', () => {
      record('a', 'v', '0');
      record('b', 'v', '1');
      record('c', 'v', '2');
      expect(lines()).to.deep.equal([]);
    });

    it('finds a branch of another volume, a copy, and one without', () => {
      record('a', 'v', '0');
      record('b', 'w', '0');
      expect(lines()).to.deep.equal([
        'b belongs to volume w, a to volume v; they are no branches of one union',
        'c says of no volume that it belongs to it, a belongs to volume v; is it a branch of another union?',
      ]);
      record('b', 'v', '0');
      record('c', 'v', '1');
      expect(lines()).to.deep.equal(['b and a both say that they are branch 0; one is a copy of the other']);
    });

    it('finds a record that cannot be read', () => {
      put('b/.union/branch.json', '{');
      expect(lines()).to.deep.equal([
        'b/.union/branch.json is not a branch record; move it away if the branch is known to belong to this volume',
      ]);
    });
  });
});

function owner(): string {
  return `${process.getuid?.()}:${process.getgid?.()}`;
}
