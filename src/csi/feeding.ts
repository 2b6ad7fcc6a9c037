/**
 * Brings branches that were added while a union is mounted from their feeders to the union's server (protocol/feeding.ts): when an
 * attachment's feeders change, and before each server that takes a mount over, which needs the branches that the one before had.
 * Attachments come from an informer: a server takes over while the API server is away, too.
 */
import { closeSync } from 'node:fs';
import { UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { callDescriptorServer, takeDescriptors } from '../host/descriptor-client.ts';
import type { Informer } from '../kubernetes/informer.ts';
import { createWorkQueue } from '../kubernetes/workqueue.ts';
import { type FeederRequest, type FeedRequest, fedBranch } from '../protocol/feeding.ts';
import type { FeederStatus, UnionAttachment } from '../protocol/resources.ts';
import { parseAcknowledgement } from '../protocol/server-control.ts';
import { attachmentNameOf } from '../union/ids.ts';
import { podSocket } from './pod-socket.ts';
import type { UnionLink } from './union-link.ts';

export interface FeedingOptions {
  readonly nodeName: string;
  readonly kubeletDir: string;
  /** Of this node. */
  readonly attachments: Pick<Informer<UnionAttachment>, 'get' | 'onChange'>;
  readonly log: Logger;
}

const CALL_LIMIT_MS = 5_000;
/** Of a server that does not serve yet; it is fed when it is to, and asked again in case that was a moment before. */
const NOT_SERVING_MS = 2_000;

export class Feeding {
  readonly #options: FeedingOptions;

  constructor(options: FeedingOptions) {
    this.#options = options;
  }

  /** Gives the volume's server at `socket` what it has not got. Throws where a feeder or the server does not answer. */
  async feed(volumeId: string, socket: string, has: readonly string[], signal: AbortSignal): Promise<void> {
    for (const feeder of this.#feedersOf(volumeId)) {
      if (!has.includes(feeder.branch)) await this.#bring(feeder, socket, signal);
    }
  }

  /** To be called after the unmount, when the server has closed its branches. Feeders that do not answer have ended. */
  async stop(volumeId: string, signal: AbortSignal): Promise<void> {
    const message: FeederRequest = { op: 'stop' };
    for (const { pod } of this.#feedersOf(volumeId)) {
      const path = podSocket(this.#options.kubeletDir, pod);
      if (path !== undefined) await callDescriptorServer({ path, message }, limited(signal)).catch(() => {});
    }
  }

  /** Feeds the servers of this node until the signal aborts. */
  async run(link: UnionLink, signal: AbortSignal): Promise<void> {
    const { attachments, log } = this.#options;
    const queue = createWorkQueue({
      name: 'feeding',
      work: async (name, signal) => await this.#work(link, name, signal),
      concurrency: 4,
      log,
    });
    const unsubscribe = attachments.onChange(({ key, kind, object }) => {
      if (kind !== 'deleted' && object.status?.feeders !== undefined) queue.add(key);
    });
    await queue.run(signal);
    unsubscribe();
  }

  async #work(link: UnionLink, name: string, signal: AbortSignal): Promise<undefined | { requeueAfterMs: number }> {
    const attachment = this.#options.attachments.get(name);
    if (attachment?.status?.feeders === undefined || attachment.metadata.deletionTimestamp) return undefined;
    const socket = podSocket(this.#options.kubeletDir, attachment.status.pod);
    const status = socket === undefined ? undefined : await link.status(socket, signal);
    if (socket === undefined || !status?.ok || status.state !== 'serving') return { requeueAfterMs: NOT_SERVING_MS };
    const has = status.branches.map(({ id }) => id);
    await this.feed(attachment.spec.volume, socket, has, signal);
    return undefined;
  }

  async #bring(feeder: FeederStatus, server: string, signal: AbortSignal): Promise<void> {
    const { branch, pod } = feeder;
    const path = podSocket(this.#options.kubeletDir, pod);
    if (path === undefined) throw new UnionError('INTERNAL', `branch ${branch}: pod ${pod.name} has no uid`);
    const ask: FeederRequest = { op: 'lend' };
    const { descriptors, connection } = await takeDescriptors({ path, message: ask }, limited(signal));
    connection.close();
    try {
      const message: FeedRequest = { op: 'feed', branch: fedBranch(feeder) };
      const answer = await callDescriptorServer({ path: server, message, descriptors }, limited(signal));
      const parsed = parseAcknowledgement(answer);
      if (!parsed.ok) throw new UnionError('UNAVAILABLE', `branch ${branch}: ${parsed.error.message}`);
      this.#options.log.info('feeding.fed', { branch, pod: pod.name });
    } finally {
      for (const descriptor of descriptors) closeSync(descriptor);
    }
  }

  #feedersOf(volumeId: string): readonly FeederStatus[] {
    const { attachments, nodeName } = this.#options;
    return attachments.get(attachmentNameOf(volumeId, nodeName))?.status?.feeders ?? [];
  }
}

function limited(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(CALL_LIMIT_MS)]);
}
