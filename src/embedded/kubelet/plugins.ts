/**
 * The CSI drivers of a node: those of this process, and those that make themselves known by a socket in plugins_registry
 * (kubelet's plugin watcher; its interface is registration.proto).
 * A driver that went away stays in CSINode, as what it attached there stays attached; it is asked again when it is back.
 */
import { existsSync, mkdirSync, readdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import type { Clock } from '../../base/clock.ts';
import { messageOf, UnionError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { WorkQueue } from '../../kubernetes/workqueue.ts';
import type { PluginInfo__Output } from '../../protocol/generated/pluginregistration/PluginInfo.ts';
import { loadRegistration } from '../../protocol/proto.ts';
import { csiNodes, nodes } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import { call, channelOptions, connectNode } from '../csi-client.ts';
import type { CsiNode } from '../csi-driver.ts';
import { createQueue, NotYet } from '../sidecars/sidecar.ts';
import { registryDirectory } from './layout.ts';

export interface PluginsOptions {
  readonly store: Store;
  readonly nodeName: string;
  readonly kubeletDir: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** A driver came or came back: mounts that failed for want of it can go on. */
  readonly onChange: () => void;
}

export class Plugins {
  readonly #options: PluginsOptions;
  readonly #drivers = new Map<string, CsiNode>();
  /** Registration sockets, and the drivers behind them. */
  readonly #sockets = new Map<string, string>();
  readonly #queue: WorkQueue;

  constructor(options: PluginsOptions) {
    this.#options = options;
    this.#queue = createQueue(options, 'kubelet.plugins', (name, signal) => this.#reconcile(name, signal));
  }

  /** The driver, or UNAVAILABLE while it is not there. */
  get(driver: string): CsiNode {
    const found = this.#drivers.get(driver);
    if (found) return found;
    const message = `driver name ${driver} not found in the list of registered CSI drivers of node ${this.#options.nodeName}`;
    throw new NotYet(message);
  }

  /** Makes a driver known: on CSINode and by the node's topology labels. */
  async register(driver: string, node: CsiNode, signal: AbortSignal): Promise<void> {
    const { store, nodeName, onChange } = this.#options;
    const info = await node.getInfo(signal);
    const segments = info.accessibleTopology?.segments ?? {};
    const before = store.get(csiNodes, { name: nodeName });
    const limit = Number(info.maxVolumesPerNode);
    const entry = {
      name: driver,
      nodeID: info.nodeId,
      topologyKeys: Object.keys(segments).sort(),
      ...(limit > 0 && { allocatable: { count: limit } }),
    };
    store.modify(nodes, { name: nodeName }, (fresh) => {
      fresh.metadata.labels = { ...fresh.metadata.labels, ...segments };
      return fresh;
    });
    const drivers = [...(before?.spec.drivers ?? []).filter(({ name }) => name !== driver), entry];
    if (before) store.update(csiNodes, { ...before, spec: { drivers } });
    else store.create(csiNodes, { metadata: { name: nodeName }, spec: { drivers } });
    this.#drivers.get(driver)?.close();
    this.#drivers.set(driver, node);
    onChange();
  }

  /** Follows the registry until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const registry = registryDirectory(this.#options.kubeletDir);
    mkdirSync(registry, { recursive: true });
    const watcher = watch(registry, (_event, name) => name?.endsWith('.sock') && this.#queue.add(name));
    for (const name of readdirSync(registry)) if (name.endsWith('.sock')) this.#queue.add(name);
    try {
      await this.#queue.run(signal);
    } finally {
      watcher.close();
      for (const driver of this.#drivers.values()) driver.close();
    }
  }

  async #reconcile(name: string, signal: AbortSignal): Promise<undefined> {
    const socket = join(registryDirectory(this.#options.kubeletDir), name);
    if (!existsSync(socket)) {
      const driver = this.#sockets.get(socket) ?? '';
      this.#sockets.delete(socket);
      this.#drivers.get(driver)?.close();
      this.#drivers.delete(driver);
      return;
    }
    const { Registration } = loadRegistration();
    const client = new Registration(`unix://${socket}`, credentials.createInsecure(), channelOptions);
    try {
      const info = await call<PluginInfo__Output>(signal, (...rest) => client.getInfo({}, ...rest));
      if (info.type !== 'CSIPlugin') return;
      let problem: string | undefined;
      try {
        await this.register(info.name, connectNode(info.endpoint || socket), signal);
        this.#sockets.set(socket, info.name);
        this.#options.log.info('plugin.registered', { driver: info.name, node: this.#options.nodeName });
      } catch (error) {
        problem = messageOf(error);
      }
      const status = { pluginRegistered: problem === undefined, error: problem ?? '' };
      await call(signal, (...rest) => client.notifyRegistrationStatus(status, ...rest));
      if (problem !== undefined) throw new UnionError('UNAVAILABLE', `registering ${info.name}: ${problem}`);
    } finally {
      client.close();
    }
  }
}
