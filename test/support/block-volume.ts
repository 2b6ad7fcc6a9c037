/** A block volume with one replica in this process, on real files in a folder that is removed by `remove`. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Logger, silentLogger } from '../../src/base/logger.ts';
import type { ClientAnswer, ClientRequest } from '../../src/block/ports.ts';
import type { Identity } from '../../src/block/recovery.ts';
import { BLOCK_SIZE, toEpoch } from '../../src/block/units.ts';
import { ConfigRegister } from '../../src/host/block/config-register.ts';
import { type BlockDisk, createReplica, ReplicaFiles } from '../../src/host/block/replica-files.ts';
import { ReplicaHost } from '../../src/host/block/replica-host.ts';
import { ByteDevice } from '../../src/host/nbd/byte-device.ts';
import { NbdExport } from '../../src/host/nbd/exports.ts';
import { NbdServer } from '../../src/host/nbd/server.ts';
import type { TlsFiles } from '../../src/host/tls.ts';

/** Files that outlive a process, where a sync costs nothing. */
const MEMORY = '/dev/shm';
export const VOLUME_NAME = 'vol';
const PATIENCE_MS = 20_000;

export interface TestVolumeOptions {
  readonly blocks?: number;
  readonly ringBlocks?: number;
}

export class TestVolume {
  readonly folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'union-block-'));
  readonly identity: Identity;

  private constructor({ blocks = 4096, ringBlocks = 64 }: TestVolumeOptions) {
    this.identity = { volume: '1'.repeat(32), replica: '2'.repeat(32), geometry: { blocks, ringBlocks } };
  }

  static async create(options: TestVolumeOptions = {}): Promise<TestVolume> {
    const volume = new TestVolume(options);
    await createReplica(volume.replica, volume.identity, 'empty');
    mkdirSync(volume.config);
    const members = ['a'];
    await new ConfigRegister(volume.config).replace({
      version: 1,
      epoch: toEpoch(0),
      primary: 'a',
      inSync: members,
      members,
    });
    return volume;
  }

  get replica(): string {
    return join(this.folder, 'replica');
  }

  get config(): string {
    return join(this.folder, 'config');
  }

  /** Opens it; undefined when the replica stops instead of serving. `wrap` may put something between engine and files. */
  async open(
    wrap: (disk: BlockDisk) => BlockDisk = (disk) => disk,
    log: Logger = silentLogger,
  ): Promise<OpenVolume | undefined> {
    const disk = wrap(await ReplicaFiles.open(this.replica));
    const reasons: string[] = [];
    const host = new ReplicaHost(
      { id: 'a', identity: this.identity, minInSync: 1 },
      {
        disk,
        config: new ConfigRegister(this.config),
        network: undefined,
        log,
        onStop: (reason) => reasons.push(reason),
      },
    );
    host.start();
    await host.whenServing();
    if (host.state === 'serving') return new OpenVolume(host);
    await host.close();
    return undefined;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class OpenVolume {
  readonly host: ReplicaHost;

  constructor(host: ReplicaHost) {
    this.host = host;
  }

  /** Fails when no answer comes: an engine that forgets one must not take the test's whole time. */
  async request(body: ClientRequest): Promise<ClientAnswer> {
    const { promise: silence, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new Error(`a ${body.kind} was not answered in ${PATIENCE_MS} ms`)),
      PATIENCE_MS,
    );
    try {
      return await Promise.race([this.host.request(body), silence]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** A block full of one byte. */
  async fill(lba: number, byte: number, blocks = 1): Promise<ClientAnswer> {
    return await this.request({ kind: 'write', lba, data: Buffer.alloc(blocks * BLOCK_SIZE, byte), fua: false });
  }

  async flush(): Promise<ClientAnswer> {
    return await this.request({ kind: 'flush' });
  }

  /** The byte that a block is full of; undefined when it cannot be read, -1 when it is not full of one. */
  async byteOf(lba: number): Promise<number | undefined> {
    const answer = await this.request({ kind: 'read', lba, blocks: 1 });
    if (!answer.ok || answer.data === undefined) return undefined;
    const first = answer.data[0]!;
    return Buffer.alloc(BLOCK_SIZE, first).equals(answer.data) ? first : -1;
  }

  /** Serves it over NBD under the name VOLUME_NAME. */
  async serve(listen: { path: string } | { port: number; host: string }, tls?: TlsFiles): Promise<NbdServer> {
    const device = new ByteDevice(this.host.deviceOf(VOLUME_NAME));
    return new NbdServer({ listen, exports: [new NbdExport(device)], tls, log: silentLogger });
  }

  async close(): Promise<void> {
    await this.host.close();
  }
}
