/**
 * The replicas of a volume as processes of `union-csi block-serve`, each with its own way to every other one: a wire that can be cut.
 * Everything is below one folder and ends with `close`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import type { VolumeConfig } from '../../src/block/volume-config.ts';
import { ConfigRegister } from '../../src/host/block/config-register.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { Disconnected, NbdClient } from './nbd-client.ts';
import { killed } from './processes.ts';
import { Relay } from './relay.ts';

const program = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
/** For whatever takes leases, evictions and rebuilds, on a machine that has much else to do. */
const PATIENCE_MS = 60_000;

export interface ReplicaOptions {
  readonly blocks: number;
  /** Below which all of them lie. */
  readonly parent?: string;
  /** False: no wires that can be cut, and none that take time. */
  readonly wired?: boolean;
  /** Where a replica's files lie, if not in the common folder. */
  readonly directories?: Readonly<Record<string, string>>;
  /** Arguments besides, of each. */
  readonly arguments?: (id: string) => readonly string[];
}

export class ReplicaProcesses {
  readonly ids: readonly string[];
  readonly folder: string;
  readonly #options: ReplicaOptions;
  readonly #processes = new Map<string, ChildProcess>();
  readonly #ports = new Map<string, number>();
  /** By `from>to`. */
  readonly #wires = new Map<string, Relay>();
  /** What they have written to stderr. */
  said = '';

  private constructor(ids: readonly string[], options: ReplicaOptions) {
    this.ids = ids;
    this.#options = options;
    this.folder = mkdtempSync(join(options.parent ?? tmpdir(), 'union-block-replicas-'));
  }

  static async start(ids: readonly string[], options: ReplicaOptions): Promise<ReplicaProcesses> {
    const replicas = new ReplicaProcesses(ids, options);
    for (const id of ids) replicas.#ports.set(id, await freePort());
    for (const from of ids) {
      for (const to of ids) {
        if (from !== to && options.wired !== false)
          replicas.#wires.set(`${from}>${to}`, await Relay.open(replicas.#ports.get(to)!));
      }
    }
    for (const id of ids) replicas.start(id);
    return replicas;
  }

  async close(): Promise<void> {
    for (const child of this.#processes.values()) await killed(child);
    for (const wire of this.#wires.values()) wire.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  start(id: string): void {
    const { blocks, arguments: more } = this.#options;
    const port = (other: string) => this.#wires.get(`${id}>${other}`)?.port ?? this.#ports.get(other);
    const members = this.ids.flatMap((other) => ['--member', `${other}=127.0.0.1:${port(other)}`]);
    const args = ['block-serve', '--size', String(blocks * BLOCK_SIZE), '--id', id, ...members, ...(more?.(id) ?? [])];
    const where = ['--config', this.#config, '--socket', this.socketOf(id), this.directoryOf(id)];
    const child = spawn(program, [...args, ...where], { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr!.on('data', (text) => {
      this.said += text;
    });
    this.#processes.set(id, child);
  }

  directoryOf(id: string): string {
    return this.#options.directories?.[id] ?? join(this.folder, id);
  }

  socketOf(id: string): string {
    return join(this.folder, `${id}.sock`);
  }

  processOf(id: string): ChildProcess {
    return this.#processes.get(id)!;
  }

  async kill(id: string): Promise<void> {
    await killed(this.processOf(id));
  }

  others(id: string): readonly string[] {
    return this.ids.filter((other) => other !== id);
  }

  /** Both directions between two. */
  wires(a: string, b: string): readonly Relay[] {
    return [this.#wires.get(`${a}>${b}`)!, this.#wires.get(`${b}>${a}`)!];
  }

  get #config(): string {
    return join(this.folder, 'config');
  }

  async config(): Promise<VolumeConfig> {
    return await new ConfigRegister(this.#config).read();
  }

  /** Whoever serves, of these. */
  async connect(ids: readonly string[] = this.ids): Promise<{ readonly id: string; readonly client: NbdClient }> {
    return await eventually(
      `one of the replicas ${ids.join(', ')} serves`,
      async () => {
        for (const id of ids) {
          const client = await NbdClient.connect({ path: this.socketOf(id) }).catch(() => undefined);
          if (client) return { id, client };
        }
        return undefined;
      },
      PATIENCE_MS,
    );
  }

  /**
   * Work that can be done again, with whoever serves, of these: on a busy machine a primary may lose its seat at any time, and then its
   * clients are cut.
   */
  async use<T>(work: (client: NbdClient, id: string) => Promise<T>, ids: readonly string[] = this.ids): Promise<T> {
    for (;;) {
      const { id, client } = await this.connect(ids);
      try {
        return await work(client, id);
      } catch (error) {
        if (!(error instanceof Disconnected)) throw error;
      } finally {
        client.close();
      }
    }
  }

  async inSync(what: string, condition: (ids: readonly string[]) => boolean): Promise<void> {
    const look = async () => {
      // There is no configuration until the first replica has made it.
      const config = await this.config().catch(() => undefined);
      return config !== undefined && condition(config.inSync);
    };
    await eventually(what, look, PATIENCE_MS);
  }

  async allInSync(): Promise<void> {
    await this.inSync('all replicas are in sync', ({ length }) => length === this.ids.length);
  }

  async evicted(id: string): Promise<void> {
    await this.inSync(`${id} leaves the in-sync set`, (ids) => !ids.includes(id));
  }
}
