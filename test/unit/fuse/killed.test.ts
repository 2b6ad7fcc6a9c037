/**
 * Every operation, killed between any two stores to the state memory, and finished by a successor: the answer, the branches and the
 * tables are what they are without a kill. So nothing happens twice, nothing is lost, and nothing leaks.
 * KILL_EACH=1 kills at every store, and the successor too; else at some of them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { WORD } from '../../../fuse/inode/layout.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { fingerprint } from '../../support/fingerprint.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { Killed, Killer } from '../../support/killer.ts';

const ROOT = 1;
const each = process.env.KILL_EACH !== undefined;
const O_RDWR = 2;
const [NOREPLACE, EXCHANGE] = [1, 2];

interface Scenario {
  readonly name: string;
  /** Makes what the operation needs; answers the operation: opcode, node, body. */
  readonly prepare: (driver: FuseDriver) => readonly [number, number, readonly (number | string)[]];
  /** A word of the reply that counts too, by its offset. */
  readonly word?: number;
}

/** A file of the union, by the kernel's way: its inode, known and closed. */
function file(driver: FuseDriver, parent: number, name: string, isOpen = false): { node: number; handle: number } {
  const made = driver.ask(OP.CREATE, parent, [O_RDWR, 0o644, 0, 0, name]);
  const [node, handle] = [made.word(0), made.word(128)];
  driver.ask(OP.WRITE, node, [handle, 0, 0, 0, name.length, 0, 0, 0, 0, 0, name]);
  if (!isOpen) driver.ask(OP.RELEASE, node, [handle, 0, 0, 0, 0, 0]);
  return { node, handle };
}

/** A directory that is on both branches. */
function merged(driver: FuseDriver, name: string): number {
  for (const path of driver.paths) mkdirSync(join(path, name));
  return driver.lookup(ROOT, name);
}

const attributes = { mode: 1, owner: 6, size: 8 };
const setattr = (valid: number, size: number, mode: number) => [
  valid,
  0,
  0,
  0,
  size,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  mode,
  0,
  0,
  0,
  0,
];

const scenarios: readonly Scenario[] = [
  {
    name: 'lookup of a file that is not known',
    prepare: (driver) => {
      writeFileSync(join(driver.paths[1]!, 'there'), '');
      return [OP.LOOKUP, ROOT, ['there']];
    },
  },
  {
    name: 'lookup of a merged directory',
    prepare: (driver) => {
      for (const path of driver.paths) mkdirSync(join(path, 'there'));
      return [OP.LOOKUP, ROOT, ['there']];
    },
  },
  {
    name: 'forget',
    prepare: (driver) => {
      const { node } = file(driver, ROOT, 'f');
      driver.lookup(ROOT, 'f');
      return [OP.FORGET, node, [2, 0]];
    },
  },
  {
    name: 'forget of many',
    prepare: (driver) => {
      const nodes = ['a', 'b', 'c'].map((name) => file(driver, ROOT, name).node);
      return [OP.BATCH_FORGET, 0, [3, 0, ...nodes.flatMap((node) => [node, 0, 1, 0])]];
    },
  },
  { name: 'create', prepare: () => [OP.CREATE, ROOT, [O_RDWR, 0o640, 0, 0, 'new']], word: 0 },
  {
    name: 'create in a directory that the branch does not have',
    prepare: (driver) => {
      mkdirSync(join(driver.paths[1]!, 'd'));
      return [OP.CREATE, driver.lookup(ROOT, 'd'), [O_RDWR, 0o640, 0, 0, 'new']];
    },
  },
  { name: 'tmpfile', prepare: () => [OP.TMPFILE, ROOT, [O_RDWR, 0o640, 0, 0, 'x']] },
  { name: 'mkdir', prepare: () => [OP.MKDIR, ROOT, [0o750, 0, 'new']] },
  { name: 'mknod', prepare: () => [OP.MKNOD, ROOT, [0o10600, 0, 0, 0, 'new']] },
  { name: 'symlink', prepare: () => [OP.SYMLINK, ROOT, ['new', 'target']] },
  { name: 'link', prepare: (driver) => [OP.LINK, ROOT, [file(driver, ROOT, 'f').node, 0, 'new']] },
  {
    name: 'link of a file without a name',
    prepare: (driver) => {
      const node = driver.ask(OP.TMPFILE, ROOT, [O_RDWR, 0o640, 0, 0, 'x']).word(0);
      return [OP.LINK, ROOT, [node, 0, 'new']];
    },
  },
  {
    name: 'unlink',
    prepare: (driver) => {
      file(driver, ROOT, 'f');
      return [OP.UNLINK, ROOT, ['f']];
    },
  },
  {
    name: 'unlink of an open file',
    prepare: (driver) => {
      file(driver, ROOT, 'f', true);
      return [OP.UNLINK, ROOT, ['f']];
    },
  },
  {
    name: 'unlink of a file that hides another',
    prepare: (driver) => {
      for (const path of driver.paths) writeFileSync(join(path, 'f'), path.slice(-2));
      driver.lookup(ROOT, 'f');
      return [OP.UNLINK, ROOT, ['f']];
    },
  },
  { name: 'unlink of a name that is not there', prepare: () => [OP.UNLINK, ROOT, ['none']] },
  {
    name: 'rmdir',
    prepare: (driver) => {
      driver.mkdir(ROOT, 'd');
      return [OP.RMDIR, ROOT, ['d']];
    },
  },
  {
    name: 'rmdir on two branches',
    prepare: (driver) => {
      merged(driver, 'd');
      return [OP.RMDIR, ROOT, ['d']];
    },
  },
  {
    name: 'rmdir of a directory that is not empty',
    prepare: (driver) => {
      writeFileSync(join(driver.paths[1]!, merged(driver, 'd') > 0 ? 'd/f' : ''), '');
      return [OP.RMDIR, ROOT, ['d']];
    },
  },
  {
    name: 'rename',
    prepare: (driver) => {
      file(driver, ROOT, 'f');
      return [OP.RENAME2, ROOT, [driver.mkdir(ROOT, 'd'), 0, 0, 0, 'f', 'g']];
    },
  },
  {
    name: 'rename over an open file',
    prepare: (driver) => {
      file(driver, ROOT, 'f');
      file(driver, ROOT, 'g', true);
      return [OP.RENAME, ROOT, [ROOT, 0, 'f', 'g']];
    },
  },
  {
    name: 'rename that may not replace',
    prepare: (driver) => {
      file(driver, ROOT, 'f');
      return [OP.RENAME2, ROOT, [ROOT, 0, NOREPLACE, 0, 'f', 'g']];
    },
  },
  {
    name: 'rename of a directory on two branches over an empty one',
    prepare: (driver) => {
      for (const path of driver.paths) mkdirSync(join(path, 'd/sub'), { recursive: true });
      driver.lookup(ROOT, 'd');
      merged(driver, 'e');
      return [OP.RENAME, ROOT, [ROOT, 0, 'd', 'e']];
    },
  },
  {
    name: 'rename of a file over one on another branch',
    prepare: (driver) => {
      writeFileSync(join(driver.paths[0]!, 'f'), 'f');
      writeFileSync(join(driver.paths[1]!, 'g'), 'g');
      for (const name of ['f', 'g']) driver.lookup(ROOT, name);
      return [OP.RENAME, ROOT, [ROOT, 0, 'f', 'g']];
    },
  },
  {
    name: 'exchange',
    prepare: (driver) => {
      file(driver, ROOT, 'f');
      file(driver, ROOT, 'g');
      return [OP.RENAME2, ROOT, [ROOT, 0, EXCHANGE, 0, 'f', 'g']];
    },
  },
  {
    name: 'exchange of directories on two branches',
    prepare: (driver) => {
      merged(driver, 'd');
      merged(driver, 'e');
      mkdirSync(join(driver.paths[0]!, 'd/in'));
      return [OP.RENAME2, ROOT, [ROOT, 0, EXCHANGE, 0, 'd', 'e']];
    },
  },
  {
    name: 'setattr',
    prepare: (driver) => {
      const { node } = file(driver, ROOT, 'file');
      return [OP.SETATTR, node, setattr(attributes.mode | attributes.size, 2, 0o600)];
    },
  },
  {
    name: 'setattr of a directory on two branches',
    prepare: (driver) => [OP.SETATTR, merged(driver, 'd'), setattr(attributes.mode, 0, 0o700)],
  },
  {
    name: 'setxattr that must create',
    prepare: (driver) => {
      const { node } = file(driver, ROOT, 'f');
      return [OP.SETXATTR, node, [5, 1, 'user.x', 'value']];
    },
  },
  {
    name: 'removexattr',
    prepare: (driver) => {
      const { node } = file(driver, ROOT, 'f');
      driver.ask(OP.SETXATTR, node, [5, 0, 'user.x', 'value']);
      return [OP.REMOVEXATTR, node, ['user.x']];
    },
  },
  { name: 'open', prepare: (driver) => [OP.OPEN, file(driver, ROOT, 'f').node, [O_RDWR, 0]] },
  {
    name: 'release',
    prepare: (driver) => {
      const { node, handle } = file(driver, ROOT, 'f', true);
      return [OP.RELEASE, node, [handle, 0, 0, 0, 0, 0]];
    },
  },
  {
    name: 'release of a file that takes the place of a forgotten one in the ring of backing ids',
    prepare: (driver) => {
      const { inodes, u32 } = driver.context;
      const [old, { node, handle }] = [file(driver, ROOT, 'old', true), file(driver, ROOT, 'f', true)];
      inodes.set(old.node, F.backing, 1);
      inodes.set(node, F.backing, 2);
      driver.ask(OP.RELEASE, old.node, [old.handle, 0, 0, 0, 0, 0]);
      driver.forget(old.node);
      u32[WORD.backingHand] = 0;
      return [OP.RELEASE, node, [handle, 0, 0, 0, 0, 0]];
    },
  },
  {
    name: 'release of a file without a name',
    prepare: (driver) => {
      const { node, handle } = file(driver, ROOT, 'f', true);
      driver.ask(OP.UNLINK, ROOT, ['f']);
      driver.forget(node);
      return [OP.RELEASE, node, [handle, 0, 0, 0, 0, 0]];
    },
  },
  {
    name: 'write',
    prepare: (driver) => {
      const { node, handle } = file(driver, ROOT, 'f', true);
      return [OP.WRITE, node, [handle, 0, 1, 0, 4, 0, 0, 0, 0, 0, 'tail']];
    },
    word: 0,
  },
  { name: 'opendir', prepare: () => [OP.OPENDIR, ROOT, [0, 0]] },
  {
    name: 'releasedir',
    prepare: (driver) => [OP.RELEASEDIR, ROOT, [driver.ask(OP.OPENDIR, ROOT, [0, 0]).word(0), 0, 0, 0, 0, 0]],
  },
  {
    name: 'readdirplus',
    prepare: (driver) => {
      for (const name of ['a', 'b', 'c']) writeFileSync(join(driver.paths[1]!, name), name);
      const handle = driver.ask(OP.OPENDIR, ROOT, [0, 0]).word(0);
      return [OP.READDIRPLUS, ROOT, [handle, 0, 0, 0, 4096, 0, 0, 0, 0, 0]];
    },
  },
];

interface Outcome {
  readonly result: number;
  readonly stores: number;
  readonly state: readonly string[];
}

/** Runs a scenario, killed after so many stores, and its successor after so many more. */
function run({ prepare, word }: Scenario, killAfter?: number, killAgainAfter?: number): Outcome {
  const killer = new Killer();
  const driver = new FuseDriver(2, 'exclusive', undefined, { view: killer.view });
  try {
    const [opcode, node, body] = prepare(driver);
    driver.place(opcode, node, body);
    killer.arm(killAfter);
    let reply = Killed.survive(() => driver.perform());
    const { stores } = killer;
    if (reply === undefined) {
      killer.arm(killAgainAfter);
      reply = Killed.survive(() => {
        driver.restart(killer.view);
        return driver.resume();
      });
    }
    if (reply === undefined) {
      killer.arm();
      driver.restart(killer.view);
      reply = driver.resume();
    }
    killer.arm();
    const detail = word !== undefined && reply.result > 0 ? [`word ${reply.word(word)}`] : [];
    return { result: reply.result, stores, state: [...detail, ...fingerprint(driver.context, driver.paths)] };
  } finally {
    killer.arm();
    driver.close();
  }
}

describe('an operation whose server is killed', function () {
  this.timeout(each ? 600_000 : 120_000);

  for (const scenario of scenarios) {
    it(`${scenario.name}: is done once, by the next one`, () => {
      const expected = run(scenario);
      const step = each ? 1 : Math.max(1, Math.floor(expected.stores / 6));
      const last = expected.stores - 1;
      // The last store always: by then the records that the request is about may be gone.
      for (
        let at = Math.floor(Math.random() * step);
        at <= last;
        at = at < last ? Math.min(at + step, last) : last + 1
      ) {
        const second = Math.random() < 0.3 ? Math.floor(Math.random() * expected.stores) : undefined;
        const { result, state } = run(scenario, at, second);
        const where = `killed after ${at} of ${expected.stores} stores${second === undefined ? '' : `, and again after ${second}`}`;
        expect(result, where).to.equal(expected.result);
        expect(state, where).to.deep.equal(expected.state);
      }
    });
  }
});
