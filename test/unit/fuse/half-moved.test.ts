/**
 * What others are told of a file while its place or names change: between any two steps, and when it moves to another branch between
 * any two looks of theirs. Who would wait for the end of the move is not let wait, as one thread plays both.
 */
import { linkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import type { Context } from '../../../fuse/ops/context.ts';
import { moveTo } from '../../../fuse/ops/move.ts';
import { ATTR_OUT, ENTRY, OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver, type Reply } from '../../support/fuse-driver.ts';

const ROOT = 1;
const O_RDWR = 2;
/** Bytes from the beginning of fuse_attr. */
const ATTR = { ino: 0, size: 8, nlink: 64 } as const;

/** What would have waited. */
const WAITS = 'what would have waited for the end of a change';

interface Told {
  readonly ino: number;
  readonly size: number;
  readonly links: number;
}

function toldAt(reply: Reply, attributes: number): Told | number {
  if (reply.result < 0) return reply.result;
  const word = (offset: number) => reply.word(attributes + offset);
  return { ino: word(ATTR.ino), size: word(ATTR.size), links: word(ATTR.nlink) };
}

describe('a file that is changing its place or names', () => {
  let driver: FuseDriver;
  let other: Context;
  let onStep: (step: string) => void;

  function start(cache: 'exclusive' | 'shared' = 'exclusive'): void {
    onStep = () => {};
    driver = new FuseDriver(3, cache, undefined, { onMoveStep: (step) => onStep(step) });
    other = driver.otherContext();
    other.state.changes.wait = () => {
      throw new Error(WAITS);
    };
  }

  afterEach(() => driver.close());

  const on = (branch: number, ...names: string[]) => join(driver.paths[branch]!, ...names);
  const attributesOf = (node: number) => toldAt(driver.ask(OP.GETATTR, node, [0, 0, 0, 0]), ATTR_OUT.attr);
  const lookUp = (name: string) => toldAt(driver.ask(OP.LOOKUP, ROOT, [name]), ENTRY.attr);

  const create = (name: string) => {
    const made = driver.ask(OP.CREATE, ROOT, [O_RDWR, 0o644, 0, 0, name]);
    return { node: made.word(0), handle: made.word(ENTRY.size) };
  };

  /** What another thread is told just now. */
  function asOther(ask: () => Told | number): Told | number | typeof WAITS {
    try {
      return driver.through(other, ask);
    } catch (error) {
      // What fails inside an operation is caught there and logged.
      if (error instanceof Error && error.message.includes(WAITS)) return WAITS;
      throw error;
    }
  }

  for (const cache of ['exclusive', 'shared'] as const)
    it(`has all of its links, by whatever name, at every step, with cache=${cache}`, () => {
      start(cache);
      writeFileSync(on(1, 'one'), 'content');
      linkSync(on(1, 'one'), on(1, 'two'));
      const node = driver.lookup(ROOT, 'one');
      expect(driver.lookup(ROOT, 'two')).to.equal(node);
      const right = attributesOf(node);
      expect(right).to.include({ size: 7, links: 2 });
      const asked: string[] = [];
      onStep = (step) => {
        // Nobody waits while it is copied, nor while that is made durable.
        const allowed = ['link', 'remove'].includes(step) ? [right, WAITS] : [right];
        expect(asOther(() => attributesOf(node))).to.be.deep.oneOf(allowed, `attributes behind ${step}`);
        for (const name of ['one', 'two'])
          expect(asOther(() => lookUp(name))).to.be.deep.oneOf(allowed, `${name} behind ${step}`);
        asked.push(step);
      };
      for (const to of [0, 2]) expect(moveTo(driver.context, node, to)).to.equal(0);
      expect(asked).to.have.length(20);
      expect(statSync(on(2, 'two')).nlink).to.equal(2);
    });

  it('has no links when it has no name', () => {
    start();
    const { node, handle } = create('file');
    driver.ask(OP.UNLINK, ROOT, ['file']);
    const right = attributesOf(node);
    expect(right).to.include({ links: 0 });
    let asked = 0;
    const ask = () => {
      asked++;
      expect(asOther(() => attributesOf(node))).to.be.deep.oneOf([right, WAITS]);
    };
    // When the copy has taken the file's place, but has not got its link in `.union` yet.
    onStep = () => onceBehind(driver.context.inodes, 'has', ask);
    expect(moveTo(driver.context, node, 1)).to.equal(0);
    expect(asked).to.equal(1);
    expect(attributesOf(node)).to.deep.equal(right);
    driver.ask(OP.RELEASE, node, [handle, 0, 0, 0, 0, 0]);
  });

  it('has one link until it loses its name, and then none', () => {
    start();
    const { node } = create('file');
    const links = linksDuring(node, () => driver.ask(OP.UNLINK, ROOT, ['file']));
    expect(links).to.deep.equal(links.toSorted((a, b) => b - a));
    expect([links[0], links.at(-1)]).to.deep.equal([1, 0]);
  });

  it('never loses the link that it gets with a name', () => {
    start();
    const node = driver.ask(OP.TMPFILE, ROOT, [O_RDWR, 0o644, 0, 0, 'x']).word(0);
    const links = linksDuring(node, () => driver.ask(OP.LINK, ROOT, [node, 0, 'file']));
    expect(links).to.deep.equal(links.toSorted((a, b) => a - b));
    expect(links.at(-1)).to.equal(1);
  });

  /** What another thread is told, before and behind each change of the tables that `act` makes, where it need not wait. */
  function linksDuring(node: number, act: () => Reply): number[] {
    const links: number[] = [];
    const ask = () => {
      const told = asOther(() => attributesOf(node));
      if (typeof told !== 'object') expect(told).to.equal(WAITS);
      else links.push(told.links);
    };
    const { inodes, state } = driver.context;
    for (const method of ['setFlag', 'clearFlag']) always(inodes, method, ask);
    for (const method of ['begin', 'end']) always(state.changes, method, ask);
    expect(act().result).to.be.at.least(0);
    return links;
  }

  /** What another thread may have just done with a name when the file moves. */
  const looks: readonly {
    readonly what: string;
    readonly known: readonly string[];
    readonly behind: (context: Context) => [object, string];
  }[] = [
    { what: 'found that nobody has looked it up yet', known: [], behind: ({ state }) => [state, 'unlock'] },
    { what: 'looked in vain on the branch where it will be', known: [], behind: (context) => [context, 'statName'] },
    { what: 'found where it is', known: ['listed'], behind: ({ state }) => [state, 'unlock'] },
    { what: 'looked at it there', known: ['listed'], behind: (context) => [context, 'statName'] },
    { what: 'recalled its attributes', known: ['listed', 'looked up'], behind: ({ state }) => [state, 'unlock'] },
  ];
  for (const { what, known, behind } of looks)
    it(`is found by who has just ${what}`, () => {
      start();
      writeFileSync(on(1, 'file'), 'content');
      if (known.includes('listed')) driver.list(ROOT);
      if (known.includes('looked up')) driver.forget(driver.lookup(ROOT, 'file'));
      const mine = driver.context;
      onceBehind(...behind(other), () => move(mine, 'file', 0));
      const told = driver.through(other, () => lookUp('file'));
      expect(told).to.include({ size: 7, links: 1 });
      const node = driver.lookup(ROOT, 'file');
      expect(mine.inodes.get(node, F.branch)).to.equal(0);
      expect(attributesOf(node)).to.deep.equal(told);
    });

  for (const cache of ['exclusive', 'shared'] as const)
    for (const [from, to] of [
      [2, 0],
      [0, 2],
    ] as const)
      it(`is listed once by who is reading a directory from branch ${from} to ${to}, with cache=${cache}`, () => {
        start(cache);
        for (const branch of [0, 1, 2]) writeFileSync(on(branch, `on-${branch}`), '');
        writeFileSync(on(from, 'file'), '');
        const mine = driver.context;
        // When the first branch has been read, and the others not yet.
        onceBehind(other.gate, 'answers', () => onceBehind(other.gate, 'answers', () => move(mine, 'file', to)));
        const listed = driver.through(other, () => driver.list(ROOT));
        expect(listed.toSorted()).to.deep.equal(['file', 'on-0', 'on-1', 'on-2']);
      });

  /** What a reader does while the other one is doing something else. */
  function move(reader: Context, name: string, to: number): void {
    driver.through(reader, () => {
      const node = driver.lookup(ROOT, name);
      expect(moveTo(reader, node, to)).to.equal(0);
      driver.forget(node);
    });
  }
});

/** Calls `act` before and behind every call of a method. */
function always(object: object, method: string, act: () => void): void {
  const methods = object as Record<string, (...given: unknown[]) => unknown>;
  const own = methods[method]!;
  methods[method] = (...given) => {
    act();
    const result = own.apply(object, given);
    act();
    return result;
  };
}

/** Calls `act` once, behind the next call of a method. */
function onceBehind(object: object, method: string, act: () => void): void {
  const methods = object as Record<string, (...given: unknown[]) => unknown>;
  const own = methods[method]!;
  methods[method] = (...given) => {
    const result = own.apply(object, given);
    methods[method] = own;
    act();
    return result;
  };
}
