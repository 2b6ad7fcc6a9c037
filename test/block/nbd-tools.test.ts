/** The NBD server with clients that others wrote: qemu-io, nbdinfo, nbdcopy, fio, nbdkit and its filters; with and without TLS. */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import type { NbdServer } from '../../src/host/nbd/server.ts';
import type { TlsFiles } from '../../src/host/tls.ts';
import { makeCertificates } from '../../src/main/block-ca.ts';
import { random } from '../sim/random.ts';
import { type OpenVolume, TestVolume, VOLUME_NAME } from '../support/block-volume.ts';
import { needs, program } from '../support/skip.ts';

const run = promisify(execFile);
const MIB = 1024 ** 2;

describe('an NBD client of others', () => {
  let volume: TestVolume;
  let open: OpenVolume;
  let server: NbdServer;
  let uri: string;

  beforeEach(async () => {
    volume = await TestVolume.create({ blocks: (64 * MIB) / 4096, ringBlocks: 1024 });
    open = (await volume.open())!;
    const path = join(volume.folder, 'nbd.sock');
    server = await open.serve({ path });
    await server.listen();
    uri = `nbd+unix:///${VOLUME_NAME}?socket=${path}`;
  });

  afterEach(async () => {
    await server.close();
    await open.close();
    volume.remove();
  });

  /** Patterns of random places and sizes, also inside blocks, each read back; `qemu-io` fails when one differs. */
  function patterns(seed: number): string[] {
    const dice = random(seed, 'qemu-io');
    const commands: string[] = [];
    for (let index = 0; index < 60; index++) {
      // Side by side: none writes over another.
      const place = `${index * MIB + dice.integer(0, 5000)} ${dice.pick([1, 511, 512, 4096, 70_000, 600_001])}`;
      const pattern = dice.integer(1, 255);
      const how = dice.pick(['', '-f ', '-z ']);
      commands.push(how === '-z ' ? `write -z ${place}` : `write ${how}-P ${pattern} ${place}`);
      if (index % 10 === 0) commands.push('flush');
      commands.push(`read -P ${how === '-z ' ? 0 : pattern} ${place}`);
    }
    return commands;
  }

  async function qemuIo(commands: readonly string[], where = uri): Promise<string> {
    const { stdout } = await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), where]);
    expect(stdout, 'what qemu-io says').to.not.match(/failed|error/i);
    return stdout;
  }

  const seed = Math.floor(Math.random() * 1e9);
  it(`qemu-io reads what it wrote, in and over blocks, with FUA, zeros and trims (seed ${seed})`, async function () {
    needs(this, program('qemu-io'));
    await qemuIo(patterns(seed));
    await qemuIo(['write -P 9 0 8M', 'discard 1M 2M', 'read -P 0 1M 2M', 'read -P 9 0 1M', 'read -P 9 3M 5M', 'flush']);
  });

  it('qemu-io finds it all again after the server was started anew', async function () {
    needs(this, program('qemu-io'));
    await qemuIo(['write -P 5 0 20M', 'write -P 6 4k 12k', 'flush']);
    await server.close();
    await open.close();
    open = (await volume.open())!;
    server = await open.serve({ path: join(volume.folder, 'nbd.sock') });
    await server.listen();
    await qemuIo(['read -P 5 0 4k', 'read -P 6 4k 12k', 'read -P 5 16k 20464k', 'read -P 0 20M 1M']);
  });

  it('nbdinfo is told size, abilities, the list of exports and where data are', async function () {
    needs(this, program('nbdinfo'));
    const { stdout } = await run('nbdinfo', ['--json', uri]);
    const [told] = JSON.parse(stdout).exports;
    expect(told).to.include({
      'export-size': 64 * MIB,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_multi_conn: true,
      can_cache: true,
      block_size_minimum: 4096,
    });
    expect((await run('nbdinfo', ['--list', uri])).stdout).to.contain(`export="${VOLUME_NAME}"`);
    await open.fill(256, 7, 16);
    const map = JSON.parse((await run('nbdinfo', ['--json', '--map', uri])).stdout);
    expect(map.map(({ offset, length, type }: Record<string, number>) => [offset, length, type])).to.deep.equal([
      [0, MIB, 3],
      [MIB, 65_536, 0],
      [MIB + 65_536, 63 * MIB - 65_536, 3],
    ]);
    const unknown = await run('nbdinfo', [uri.replace(VOLUME_NAME, 'another')]).then(() => '', String);
    expect(unknown).to.contain('No such file or directory for export: another');
  });

  it('nbdcopy brings an image in over several connections, and out again as it was', async function () {
    needs(this, program('nbdcopy'));
    const image = Buffer.alloc(64 * MIB);
    const dice = random(1, 'image');
    for (let part = 0; part < 40; part++) {
      const at = dice.integer(0, 15_000) * 4096;
      for (let index = at; index < at + 400_000 && index < image.length; index += 8) {
        image.writeUInt32LE(Math.floor(dice.next() * 2 ** 32), index);
      }
    }
    const [into, out] = [join(volume.folder, 'in.img'), join(volume.folder, 'out.img')];
    writeFileSync(into, image);
    await run('nbdcopy', ['--connections=4', '--flush', into, uri]);
    await run('nbdcopy', ['--connections=4', uri, out]);
    expect(readFileSync(out).equals(image)).to.equal(true);
  });

  it('fio verifies what it wrote at random, with many requests under way', async function () {
    needs(this, program('fio'));
    const job = [
      '--name=verify',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=randwrite',
      '--bsrange=4k-64k',
      '--bs_unaligned=0',
    ];
    const load = [
      '--iodepth=32',
      '--size=48M',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--fsync=64',
      '--output-format=json',
    ];
    const { stdout } = await run('fio', [...job, ...load]);
    const [result] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs;
    expect(result.error).to.equal(0);
    expect(result.read.io_bytes, 'verified').to.be.at.least(40 * MIB);
  });

  it('nbdkit, with filters that cut requests up and delay them, sees the same disk', async function () {
    needs(this, program('nbdkit'), program('qemu-io'));
    const through = join(volume.folder, 'through.sock');
    const filters = ['--filter=delay', '--filter=blocksize', '--filter=cow'].slice(0, 2);
    const settings = ['maxdata=16k', 'delay-read=1ms', 'delay-write=1ms'];
    const script = [
      ...['-P 3 0 1M', '-P 4 512 100', '-f -P 5 2M 64k'].map((what) => `write ${what}`),
      'flush',
      'read -P 5 2M 64k',
    ];
    const command = `qemu-io -f raw ${script.map((line) => `-c '${line}'`).join(' ')} "$uri"`;
    const { stdout } = await run('nbdkit', [
      '-U',
      through,
      '--exit-with-parent',
      ...filters,
      'nbd',
      `uri=${uri}`,
      ...settings,
      '--run',
      command,
    ]);
    expect(stdout).to.not.match(/failed|error/i);
    await qemuIo(['read -P 3 4k 1020k', 'read -P 4 512 100', 'read -P 3 0 512', 'read -P 5 2M 64k']);
  });

  describe('with TLS', () => {
    let certificates: string;
    let tls: TlsFiles;

    beforeEach(async function () {
      needs(this, program('nbdinfo'));
      certificates = await certified(join(volume.folder, 'tls'));
      const read = (name: string) => readFileSync(join(certificates, name), 'utf8');
      tls = { ca: read('ca-cert.pem'), cert: read('server-cert.pem'), key: read('server-key.pem') };
    });

    async function info(scheme: string, address: string, directory: string): Promise<string> {
      const where = `${scheme}://${address}/${VOLUME_NAME}?tls-certificates=${directory}`;
      return await run('nbdinfo', [where]).then(
        ({ stdout }) => stdout,
        (error: unknown) => String(error),
      );
    }

    it('serves who has a certificate of its authority, and tells nobody else anything', async () => {
      const secured = await open.serve({ port: 0, host: '127.0.0.1' }, tls);
      const port = (await secured.listen()).split(':').at(-1);
      const address = `localhost:${port}`;
      expect(await info('nbds', address, certificates)).to.contain('export-size: 67108864');
      const stranger = await certified(join(volume.folder, 'stranger'));
      // It trusts the server, and is not trusted.
      writeFileSync(join(stranger, 'ca-cert.pem'), tls.ca);
      expect(await info('nbds', address, stranger)).to.not.contain('export-size');
      expect(await info('nbd', address, certificates))
        .to.not.contain('export-size')
        .and.to.not.contain(`${VOLUME_NAME}"`);
      await secured.close();
    });
  });
});

/** The folder has an authority, and keys of a server and a client. */
async function certified(directory: string): Promise<string> {
  await makeCertificates(directory, ['localhost']);
  return join(directory, 'localhost');
}
