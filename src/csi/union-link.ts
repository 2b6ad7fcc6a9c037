/**
 * From a volume to the server process that serves it on this node: UnionAttachment → server pod → socket in the pod's emptyDir.
 * Nothing is kept in memory: every call looks again.
 */
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { type ErrorCode, messageOf, UnionError } from '../base/errors.ts';
import { callDescriptorServer } from '../host/descriptor-client.ts';
import type { Repository } from '../kubernetes/repository.ts';
import type { UnionAttachment } from '../protocol/resources.ts';
import {
  parseAcknowledgement,
  parseServerStatus,
  RUN_VOLUME,
  SERVER_SOCKET,
  type ServerFailure,
  type ServerRequest,
  type ServerStatus,
} from '../protocol/server-control.ts';
import { attachmentNameOf } from '../union/ids.ts';

export interface UnionLinkOptions {
  readonly nodeName: string;
  readonly kubeletDir: string;
  readonly attachments: Pick<Repository<UnionAttachment>, 'get'>;
  readonly clock: Clock;
}

export interface ReachedServer {
  readonly socket: string;
  readonly status: ServerStatus;
  /** What the attachment says. */
  readonly readOnly: boolean;
}

/** How long a call waits for a server that is starting, before the caller is told to come again. */
const WAIT_LIMIT_MS = 8_000;

const RETRY_INTERVAL_MS = 25;
/** A server answers from memory, but opens its branches before it listens. */
const STATUS_LIMIT_MS = 5_000;
/** INIT, and opening branches anew. */
const SERVE_LIMIT_MS = 10_000;
const STOP_LIMIT_MS = 10_000;

export class UnionLink {
  readonly #options: UnionLinkOptions;

  constructor(options: UnionLinkOptions) {
    this.#options = options;
  }

  /** The volume's server, ready to serve or serving. UNAVAILABLE names what is pending; NOT_FOUND if it was never attached. */
  async reach(volumeId: string, signal: AbortSignal): Promise<ReachedServer> {
    const { clock } = this.#options;
    const deadline = clock.now() + WAIT_LIMIT_MS;
    for (;;) {
      const attachment = await this.#attachment(volumeId, signal);
      if (attachment === undefined) {
        const message = `volume ${volumeId} is not attached to node ${this.#options.nodeName}; publish it to the node first`;
        throw new UnionError('NOT_FOUND', message);
      }
      const socket = this.#socketOf(attachment);
      const status = socket === undefined ? undefined : await this.#tryStatus(socket, signal);
      if (socket !== undefined && status?.ok) {
        this.#check(volumeId, status);
        return { socket, status, readOnly: attachment.spec.readOnly };
      }
      if (clock.now() >= deadline) {
        throw new UnionError('UNAVAILABLE', `volume ${volumeId} is not served yet: ${pending(attachment, status)}`);
      }
      await clock.sleep(RETRY_INTERVAL_MS, signal);
    }
  }

  /** Hands the mount's descriptors over; returns when INIT was answered. They stay the caller's to close. */
  async serve(
    options: { socket: string; descriptors: readonly number[]; readOnly: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    const { socket, descriptors, readOnly } = options;
    const message: ServerRequest = { op: 'serve', readOnly };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(SERVE_LIMIT_MS)]);
    const answer = parseAcknowledgement(await callDescriptorServer({ path: socket, message, descriptors }, limit));
    if (!answer.ok) throw errorOf(answer.error);
  }

  /** Makes sure that the volume's server, if there is one, has closed its branches. To be called after the unmount. */
  async stop(volumeId: string, signal: AbortSignal): Promise<void> {
    const attachment = await this.#attachment(volumeId, signal);
    const socket = attachment && this.#socketOf(attachment);
    if (socket === undefined) return;
    // A process that does not listen is not there, and its descriptors with it.
    const status = await this.#tryStatus(socket, signal);
    if (!status?.ok) return;
    const message: ServerRequest = { op: 'stop' };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(STOP_LIMIT_MS)]);
    const answer = parseAcknowledgement(await callDescriptorServer({ path: socket, message }, limit));
    if (!answer.ok) throw errorOf(answer.error);
  }

  async #attachment(volumeId: string, signal: AbortSignal): Promise<UnionAttachment | undefined> {
    const name = attachmentNameOf(volumeId, this.#options.nodeName);
    return await this.#options.attachments.get({ name }, signal);
  }

  #socketOf({ status }: UnionAttachment): string | undefined {
    // The uid comes from the API and becomes a part of a path: it must be one.
    if (status?.pod === undefined || !/^[0-9a-zA-Z-]+$/.test(status.pod.uid)) return undefined;
    const pod = join(this.#options.kubeletDir, 'pods', status.pod.uid);
    return join(pod, 'volumes', 'kubernetes.io~empty-dir', RUN_VOLUME, SERVER_SOCKET);
  }

  /** A failure is one to wait out: nobody listens yet. */
  async #tryStatus(socket: string, signal: AbortSignal): Promise<ServerStatus | ServerFailure> {
    const message: ServerRequest = { op: 'status' };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(STATUS_LIMIT_MS)]);
    try {
      const answer = parseServerStatus(await callDescriptorServer({ path: socket, message }, limit));
      return answer.ok ? answer.value : answer.error;
    } catch (error) {
      if (signal.aborted) throw error;
      return { ok: false, code: 'UNAVAILABLE', message: messageOf(error) };
    }
  }

  #check(volumeId: string, status: ServerStatus): void {
    if (status.volume !== volumeId) {
      const message = `the server pod of volume ${volumeId} serves ${status.volume}; delete the pod to have it made again`;
      throw new UnionError('FAILED_PRECONDITION', message);
    }
    if (status.state === 'failed') {
      const message = `the server of volume ${volumeId} cannot open its branches: ${status.message ?? 'no reason given'}`;
      throw new UnionError('UNAVAILABLE', message);
    }
  }
}

/** What a person should look at while the server is not there. */
function pending({ status }: UnionAttachment, answer: ServerStatus | ServerFailure | undefined): string {
  const reasons = (status?.conditions ?? [])
    .filter((condition) => condition.status === 'False' && condition.message !== '')
    .map((condition) => condition.message);
  if (reasons.length > 0) return reasons.join('; ');
  if (status?.pod === undefined) return 'its server pod is not created yet';
  const pod = `server pod ${status.pod.namespace}/${status.pod.name}`;
  if (status.phase !== 'Running') return `${pod} is not running yet (${status.phase ?? 'Pending'})`;
  return `${pod} runs, but ${answer?.ok === false ? answer.message : 'does not answer'}`;
}

const KNOWN_CODES: readonly ErrorCode[] = ['INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'UNAVAILABLE', 'CANCELLED'];

function errorOf({ code, message }: ServerFailure): UnionError {
  return new UnionError(KNOWN_CODES.find((known) => known === code) ?? 'INTERNAL', message);
}
