/** Unions whose server is killed and followed by another: what applications have open goes on. */
import { type ChildProcess, execFile } from 'node:child_process';
import { mkdir, open, opendir, readdir, readFile, rename, rm, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { closeBackingIds } from '../../support/backing-ids.ts';
import { KeptUnion } from '../../support/kept-union.ts';
import { LOCK_KINDS, takeLock } from '../../support/locker.ts';
import { Mapper } from '../../support/mapper.ts';
import { killed } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';

const mebibyte = 1024 ** 2;

for (const passthrough of [true, false]) {
  describe(`a union whose server is killed, ${passthrough ? 'passthrough' : 'proxied'}`, () => {
    let union: KeptUnion;
    const at = (name: string) => join(union.mountpoint, name);

    before(async function () {
      needs(this, fuse, loop);
      union = new KeptUnion({ sizesBytes: [32 * mebibyte, 32 * mebibyte], passthrough });
      await union.start();
    });

    after(async () => {
      expect(union.output).to.equal('');
      await union.close();
    });

    const children: ChildProcess[] = [];
    afterEach(async () => {
      for (const child of children.splice(0)) await killed(child);
    });

    const restart = async () => {
      await union.kill();
      await union.start();
    };

    it('has the same files afterwards', async () => {
      await mkdir(at('d'));
      await writeFile(at('d/f'), 'content');
      const before = await stat(at('d/f'), { bigint: true });
      await restart();
      expect(await readFile(at('d/f'), 'utf8')).to.equal('content');
      expect((await stat(at('d/f'), { bigint: true })).ino).to.equal(before.ino);
      await rename(at('d/f'), at('d/g'));
      expect(await readdir(at('d'))).to.deep.equal(['g']);
    });

    it('lets requests wait until the next server is there', async () => {
      await union.kill();
      const written = writeFile(at('waits'), 'x');
      await union.start();
      await written;
      expect(await readFile(at('waits'), 'utf8')).to.equal('x');
    });

    it('keeps open files, also those that have no name any more', async () => {
      const file = await open(at('open'), 'w+');
      const lost = await open(at('lost'), 'w+');
      await file.write('one ');
      await lost.write('one ');
      await unlink(at('lost'));
      await restart();
      await file.write('two');
      await lost.write('two');
      await rename(at('open'), at('moved'));
      await restart();
      const bytes = Buffer.alloc(7);
      for (const handle of [file, lost]) {
        expect((await handle.read(bytes, 0, 7, 0)).bytesRead).to.equal(7);
        expect(bytes.toString()).to.equal('one two');
      }
      expect((await lost.stat()).nlink).to.equal(0);
      expect(await readFile(at('moved'), 'utf8')).to.equal('one two');
      await file.close();
      await lost.close();
    });

    it('keeps open directories: what was there before and after is listed once', async () => {
      // More than one reading of libc.
      const names = Array.from({ length: 1000 }, (_, index) => `${index}`.padStart(60, 'n'));
      await mkdir(at('listed'));
      for (const name of names) await mkdir(at(`listed/${name}`));
      const directory = await opendir(at('listed'), { bufferSize: 1 });
      const first = (await directory.read())!.name;
      await restart();
      // As rm -r does; and others come.
      await rmdir(at(`listed/${first}`));
      for (let index = 0; index < 20; index++) await mkdir(at(`listed/${index}`));
      const rest: string[] = [];
      for await (const { name } of directory) if (name.length === 60) rest.push(name);
      expect([first, ...rest].sort()).to.deep.equal(names.sort());
    });

    it('keeps working directories, even removed ones', async () => {
      await mkdir(at('here'));
      const script = `cd ${at('here')} && rmdir ${at('here')} && echo ready && read line && stat -c %h . && ls -A . && touch x; echo $?`;
      const shell = execFile('bash', ['-c', script]);
      let said = '';
      shell.stdout!.on('data', (text) => {
        said += text;
      });
      await new Promise((resolve) => shell.stdout!.once('data', resolve));
      await restart();
      shell.stdin!.end('go\n');
      await new Promise((resolve) => shell.once('close', resolve));
      expect(said).to.equal('ready\n0\n1\n');
    });

    if (passthrough)
      it('reads and writes while no server lives', async () => {
        const file = await open(at('past'), 'w+');
        await file.write('before');
        await union.kill();
        await file.write('during', 0);
        const bytes = Buffer.alloc(6);
        await file.read(bytes, 0, 6, 0);
        expect(bytes.toString()).to.equal('during');
        await union.start();
        expect(await readFile(at('past'), 'utf8')).to.equal('during');
        await file.close();
      });

    if (passthrough)
      it('lets mappings be read and written while no server lives', async () => {
        await writeFile(at('mapped'), Buffer.alloc(65_536, 'a'));
        const mapper = new Mapper(at('mapped'));
        children.push(mapper.child);
        expect(await mapper.said()).to.equal('mapped');
        expect(await mapper.store('b')).to.equal('ba');
        await union.kill();
        expect(await mapper.store('c')).to.equal('cb');
        expect(await mapper.store('d')).to.equal('dc');
        await union.start();
        expect(await mapper.store('e')).to.equal('ed');
        const content = await readFile(at('mapped'), 'latin1');
        expect([1, 2, 3, 4].map((page) => content[4096 * page]).join('')).to.equal('bcde');
      });

    if (passthrough)
      it('keeps no backing file of what has gone', async () => {
        // Kills while files are opened, written and removed.
        let working = true;
        const work = (async () => {
          for (let n = 0; working; n++) {
            await writeFile(at(`b${n % 20}`), 'x');
            await unlink(at(`b${n % 20}`));
          }
        })();
        for (let kill = 0; kill < 3; kill++) await restart();
        working = false;
        await work;
        for (const name of await readdir(union.mountpoint)) await rm(at(name), { recursive: true });
        await union.kill();
        expect(closeBackingIds(union.devices[0]!)).to.deep.equal([]);
        await union.start();
      });

    for (const kind of LOCK_KINDS)
      it(`keeps locks: ${kind}`, async () => {
        await writeFile(at('locked'), '');
        const lock = async () => {
          const { child, answer } = await takeLock(kind, at('locked'));
          children.push(child);
          return answer;
        };
        expect(await lock()).to.equal('locked');
        await restart();
        expect(await lock()).to.equal('refused');
        for (const child of children.splice(0)) await killed(child);
        expect(await lock()).to.equal('locked');
      });
  });
}
