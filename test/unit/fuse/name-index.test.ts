import { expect } from 'chai';
import fc from 'fast-check';
import { F, InodeTable } from '../../../fuse/inode/inode-table.ts';
import { WORD } from '../../../fuse/inode/layout.ts';
import { D, hashNameAt, NameIndex, PARTIAL } from '../../../fuse/inode/name-index.ts';
import { State } from '../../../fuse/inode/state.ts';
import { DT_DIR, DT_REG } from '../../../fuse/sys/constants.ts';
import * as libc from '../../../fuse/sys/libc.ts';

const PARENTS = 4;

/** What the index must say: by parent and name. */
interface Known {
  readonly dentry: number;
  readonly kind: number;
  inode: number;
}

class World {
  readonly state: State;
  readonly inodes: InodeTable;
  readonly names: NameIndex;
  readonly model = new Map<string, Known>();
  readonly parents: readonly number[];
  readonly files: readonly number[];
  /** All names in one bucket, or as they come. */
  readonly #collide: boolean;
  readonly #at: number;

  constructor(state: State, collide: boolean) {
    this.state = state;
    this.inodes = new InodeTable(state);
    this.names = new NameIndex(state, this.inodes);
    this.#at = state.threadArea(0).scratch;
    this.#collide = collide;
    this.parents = Array.from({ length: PARENTS }, () => this.inodes.allocate(DT_DIR));
    this.files = Array.from({ length: 3 }, () => this.inodes.allocate(DT_REG));
  }

  name(text: string): { position: number; length: number; hash: (parent: number) => number } {
    const bytes = Buffer.from(text, 'latin1');
    this.state.u8.set([...bytes, 0], this.#at);
    const hash = (parent: number) =>
      this.#collide ? 4096 * parent : hashNameAt(this.state.u8, parent, this.#at, bytes.length);
    return { position: this.#at, length: bytes.length, hash };
  }

  find(parent: number, text: string): number {
    const { position, length, hash } = this.name(text);
    return this.names.find(parent, position, length, hash(parent));
  }

  insert(parent: number, text: string, kind: number): void {
    const key = `${parent}/${text}`;
    if (this.model.has(key)) return;
    const { position, length, hash } = this.name(text);
    const dentry = this.names.insert(parent, position, length, hash(parent), kind);
    this.model.set(key, { dentry, kind, inode: 0 });
  }

  remove(key: string): void {
    const known = this.model.get(key);
    if (known === undefined) return;
    if (known.inode !== 0) this.names.detach(known.dentry);
    this.names.remove(known.dentry);
    this.model.delete(key);
  }

  move(key: string, parent: number, text: string): void {
    const known = this.model.get(key);
    if (known === undefined || this.model.has(`${parent}/${text}`)) return;
    const { position, length, hash } = this.name(text);
    expect(this.names.move(known.dentry, parent, position, length, hash(parent))).to.equal(true);
    this.model.delete(key);
    this.model.set(`${parent}/${text}`, known);
  }

  attach(key: string, inode: number): void {
    const known = this.model.get(key);
    if (known === undefined) return;
    if (known.inode !== 0) this.names.detach(known.dentry);
    else this.names.attach(known.dentry, inode);
    known.inode = known.inode === 0 ? inode : 0;
  }

  check(): void {
    expect(this.state.u32[WORD.dentryCount]).to.equal(this.model.size);
    for (const [key, { dentry, kind, inode }] of this.model) {
      const slash = key.indexOf('/');
      expect(this.find(Number(key.slice(0, slash)), key.slice(slash + 1)), key).to.equal(dentry);
      expect(this.names.kind(dentry)).to.equal(kind);
      expect(this.names.get(dentry, D.inode)).to.equal(inode);
    }
    for (const parent of this.parents) {
      const below = [...this.model].filter(([key]) => key.startsWith(`${parent}/`)).map(([, known]) => known);
      expect(this.inodes.get(parent, F.children)).to.equal(below.length);
      expect(this.inodes.get(parent, F.subdirectories)).to.equal(below.filter(({ kind }) => kind === DT_DIR).length);
      expect(this.inodes.get(parent, F.liveChildren)).to.equal(below.filter(({ inode }) => inode !== 0).length);
      const siblings: number[] = [];
      for (let at = this.inodes.get(parent, F.firstChild); at !== 0; at = this.names.get(at, D.nextSibling))
        siblings.push(at);
      expect(siblings.sort()).to.deep.equal(below.map(({ dentry }) => dentry).sort());
    }
    for (const file of this.files) {
      const aliases: number[] = [];
      for (let at = this.inodes.get(file, F.dentry); at !== 0; at = this.names.get(at, D.alias)) aliases.push(at);
      const wanted = [...this.model.values()].filter(({ inode }) => inode === file).map(({ dentry }) => dentry);
      expect(aliases.sort()).to.deep.equal(wanted.sort());
    }
  }

  /** Leaves the state as empty as it was. */
  close(): void {
    for (const key of [...this.model.keys()]) this.remove(key);
    for (const slot of [...this.parents, ...this.files]) this.inodes.free(slot);
    expect([this.state.u32[WORD.dentryCount], this.inodes.count]).to.deep.equal([0, 0]);
  }
}

const parent = fc.nat({ max: PARENTS - 1 });
const text = fc.oneof(
  fc.constantFrom('a', 'b', 'ab', 'x'.repeat(15), 'x'.repeat(16), 'x'.repeat(255)),
  fc.string({
    minLength: 1,
    maxLength: 40,
    unit: fc.integer({ min: 1, max: 255 }).map((byte) => String.fromCharCode(byte)),
  }),
);
const nth = fc.nat({ max: 1000 });
const step = fc.oneof(
  fc.record({ do: fc.constant('insert' as const), parent, text, isDirectory: fc.boolean() }),
  fc.record({ do: fc.constant('remove' as const), nth }),
  fc.record({ do: fc.constant('move' as const), nth, parent, text }),
  fc.record({ do: fc.constant('attach' as const), nth, file: fc.nat({ max: 2 }) }),
);

describe('name index', () => {
  let state: State;

  before(() => {
    state = State.create(0);
  });

  after(() => {
    libc.close(state.fd);
  });

  for (const collide of [false, true]) {
    it(`knows what a map knows${collide ? ', all in one bucket' : ''}`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          const world = new World(state, collide);
          try {
            for (const one of steps) {
              const keyAt = (index: number) => [...world.model.keys()][index % Math.max(world.model.size, 1)] ?? '';
              if (one.do === 'insert')
                world.insert(world.parents[one.parent]!, one.text, one.isDirectory ? DT_DIR : DT_REG);
              else if (one.do === 'remove') world.remove(keyAt(one.nth));
              else if (one.do === 'move') world.move(keyAt(one.nth), world.parents[one.parent]!, one.text);
              else world.attach(keyAt(one.nth), world.files[one.file]!);
            }
            world.check();
          } finally {
            world.close();
          }
        }),
        { numRuns: 150 },
      );
    });
  }

  it('finds every name while it grows by ten thousands, and when most have gone', () => {
    const world = new World(state, false);
    try {
      for (let index = 0; index < 20_000; index++)
        world.insert(world.parents[index % PARENTS]!, `name ${index}`, DT_REG);
      expect(world.state.u32[WORD.nameBuckets]).to.be.greaterThan(8000);
      for (const key of [...world.model.keys()]) if (Number(key.split(' ')[1]) % 10 !== 0) world.remove(key);
      const { dentryBump, nameBump } = WORD;
      const before = [world.state.u32[dentryBump], world.state.u32[nameBump]];
      for (let index = 0; index < 15_000; index++) world.insert(world.parents[0]!, `again ${index}`, DT_DIR);
      for (const [key, { dentry }] of world.model) {
        const slash = key.indexOf('/');
        if (world.find(Number(key.slice(0, slash)), key.slice(slash + 1)) !== dentry) expect.fail(key);
      }
      expect([world.state.u32[dentryBump], world.state.u32[nameBump]], 'freed memory is used again').to.deep.equal(
        before,
      );
    } finally {
      world.close();
    }
  });

  it('replaces the branches of a name as a whole, and that ends its being partial', () => {
    const world = new World(state, false);
    try {
      world.insert(world.parents[0]!, 'name', DT_REG);
      const dentry = world.find(world.parents[0]!, 'name');
      world.names.set(dentry, D.info, world.names.get(dentry, D.info) | PARTIAL);
      for (const branch of [0, 31, 32, 63]) world.names.addBranch(dentry, branch);
      expect(world.names.get(dentry, D.maskLow)).to.equal(0x80000001);
      expect(world.names.get(dentry, D.maskHigh)).to.equal(0x80000001);
      expect(world.names.isPartial(dentry)).to.equal(true);
      world.names.setBranches(dentry, 2, 0);
      expect(world.names.isPartial(dentry)).to.equal(false);
      expect([D.maskLow, D.maskHigh].map((field) => world.names.get(dentry, field))).to.deep.equal([2, 0]);
      expect([world.names.kind(dentry), world.names.nameLength(dentry)]).to.deep.equal([DT_REG, 4]);
    } finally {
      world.close();
    }
  });
});
