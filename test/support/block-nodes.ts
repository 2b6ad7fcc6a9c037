/**
 * A block volume as a cluster has it: `union-csi block-node` processes, one for each replica, around an API server in this process that
 * holds the volume's configuration. They stay dead when they are killed, until they are started again. Everything is below one
 * folder and ends with `close`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { silentLogger } from '../../src/base/logger.ts';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { exportName } from '../../src/controllers/block/node-replica.ts';
import { blockVolumes, customResourceDefinitions } from '../../src/embedded/api-server/kinds.ts';
import { type ApiServer, startApiServer } from '../../src/embedded/api-server/server.ts';
import { Store } from '../../src/embedded/api-server/store.ts';
import type { AttachConfig } from '../../src/host/block/attached-volume.ts';
import type { BlockConfig } from '../../src/protocol/block-resources.ts';
import { freePort } from './free-port.ts';
import { killed } from './processes.ts';

const program = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const definitions = fileURLToPath(new URL('../../deploy/overlays/block-engine/crds', import.meta.url));
const POOL = 'default';

interface Ports {
  readonly peer: number;
  readonly export: number;
}

export class BlockNodes {
  readonly ids: readonly string[];
  readonly volumeId = `bv-${'0'.repeat(32)}`;
  readonly #folder: string;
  readonly #sizeBytes: number;
  readonly #store = new Store();
  readonly #api: ApiServer;
  readonly #ports: ReadonlyMap<string, Ports>;
  readonly #processes = new Map<string, ChildProcess>();

  private constructor(parts: {
    folder: string;
    blocks: number;
    api: ApiServer;
    store: Store;
    ports: Map<string, Ports>;
  }) {
    const { folder, blocks, api, store, ports } = parts;
    this.ids = [...ports.keys()];
    this.#folder = folder;
    this.#sizeBytes = blocks * BLOCK_SIZE;
    this.#api = api;
    this.#store = store;
    this.#ports = ports;
  }

  /** A volume with so many replicas, attached to the node of the first one. */
  static async start(replicas: number, { folder, blocks }: { folder: string; blocks: number }): Promise<BlockNodes> {
    const store = new Store();
    for (const file of readdirSync(definitions).filter((name) => name.endsWith('.yaml')))
      store.create(customResourceDefinitions, parse(readFileSync(join(definitions, file), 'utf8')));
    const api = await startApiServer({ store, port: 0, readLog: () => undefined as never, log: silentLogger });
    const ports = new Map<string, Ports>();
    for (const id of ['n1', 'n2', 'n3'].slice(0, replicas))
      ports.set(id, { peer: await freePort(), export: await freePort() });
    const nodes = new BlockNodes({ folder, blocks, api, store, ports });
    nodes.#createVolume();
    for (const id of nodes.ids) nodes.start(id);
    return nodes;
  }

  async close(): Promise<void> {
    await Promise.all(this.ids.map((id) => this.kill(id)));
    await this.#api.close();
    this.#store.close();
  }

  start(id: string): void {
    const directory = join(this.#folder, id);
    const kubeletDir = join(directory, 'kubelet');
    const socket = join(kubeletDir, 'plugins', 'block', 'csi.sock');
    mkdirSync(dirname(socket), { recursive: true });
    const { peer, export: own } = this.#ports.get(id)!;
    const where = [
      '--kubeconfig',
      this.#kubeconfig(),
      '--kubelet-dir',
      kubeletDir,
      '--csi-endpoint',
      `unix://${socket}`,
    ];
    const ports = ['--peer-port', String(peer), '--export-port', String(own)];
    const pool = ['--pool', `${POOL}=${join(directory, 'pool')}`];
    const log = openSync(join(directory, 'log'), 'a');
    const args = ['block-node', '--node-name', id, ...where, ...ports, ...pool];
    this.#processes.set(id, spawn(program, args, { stdio: ['ignore', log, log] }));
    closeSync(log);
  }

  /** Resolves when it is dead. */
  async kill(id: string): Promise<void> {
    await killed(this.#processes.get(id)!);
  }

  /** As nobody but the replicas writes it; undefined while they have not begun. */
  get config(): BlockConfig | undefined {
    return this.#store.get(blockVolumes, { name: this.volumeId })?.status?.config;
  }

  get primary(): string {
    return this.config?.primary ?? this.ids[0]!;
  }

  get areAllInSync(): boolean {
    return this.config?.inSync.length === this.ids.length;
  }

  /** What whoever attaches the volume is to know. */
  get attachConfig(): AttachConfig {
    const addresses = this.ids.map((node) => ({ node, host: '127.0.0.1', port: this.#ports.get(node)!.export }));
    return { exportName: exportName(this.volumeId, this.ids[0]!), sizeBytes: this.#sizeBytes, addresses };
  }

  /** The end of what each has written. */
  get said(): string {
    return this.ids.map((id) => readFileSync(join(this.#folder, id, 'log'), 'utf8').slice(-4000)).join('\n');
  }

  #createVolume(): void {
    this.#store.create(blockVolumes, {
      metadata: { name: this.volumeId },
      spec: {
        ...{ volumeName: 'volume', pool: POOL, minInSync: 1, members: this.ids, attachedTo: this.ids[0]! },
        capacityBytes: String(this.#sizeBytes),
      },
    });
  }

  #kubeconfig(): string {
    const path = join(this.#folder, 'kubeconfig');
    const name = 'test';
    const config = {
      clusters: [{ name, cluster: { server: this.#api.url } }],
      users: [{ name, user: {} }],
      contexts: [{ name, context: { cluster: name, user: name } }],
      'current-context': name,
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  }
}
