/**
 * From a volume to the server process that serves it on this node: UnionAttachment → server pod → socket in the pod's emptyDir.
 * Nothing is kept in memory: every call looks again.
 */
import { closeSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { type ErrorCode, messageOf, UnionError } from '../base/errors.ts';
import {
  callDescriptorServer,
  type HeldConnection,
  holdDescriptorServer,
  takeDescriptors,
} from '../host/descriptor-client.ts';
import { errnoCode } from '../host/syscalls.ts';
import type { Repository } from '../kubernetes/repository.ts';
import type { UnionAttachment } from '../protocol/resources.ts';
import {
  parseAcknowledgement,
  parseServerCustody,
  parseServerStatus,
  type ServerFailure,
  type ServerRequest,
  type ServerStatus,
} from '../protocol/server-control.ts';
import { attachmentNameOf } from '../union/ids.ts';
import type { Feeding } from './feeding.ts';
import { podSocket } from './pod-socket.ts';

export interface UnionLinkOptions {
  readonly nodeName: string;
  readonly kubeletDir: string;
  readonly attachments: Pick<Repository<UnionAttachment>, 'get'>;
  readonly feeding: Pick<Feeding, 'feed' | 'stop'>;
  readonly clock: Clock;
}

/** Where a volume's server listens, or is about to. */
export interface ServerPlace {
  readonly socket: string;
  /** What the attachment says. */
  readonly readOnly: boolean;
  /** How often its container was started again. */
  readonly restarts: number;
}

/** What a server needs, and gives back. */
export interface HeldMount {
  /** Of the state memory, of the mounted device, and of its clones. */
  readonly descriptors: readonly number[];
  /** `major:minor` of the mount. */
  readonly device: string;
  readonly readOnly: boolean;
}

export interface Taken extends HeldMount {
  readonly connection: HeldConnection;
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
  async reach(volumeId: string, signal: AbortSignal): Promise<ServerPlace> {
    const { clock } = this.#options;
    const deadline = clock.now() + WAIT_LIMIT_MS;
    for (;;) {
      const attachment = await this.#attachment(volumeId, signal);
      if (attachment === undefined) {
        const message = `volume ${volumeId} is not attached to node ${this.#options.nodeName}; publish it to the node first`;
        throw new UnionError('NOT_FOUND', message);
      }
      const socket = this.#socketOf(attachment);
      const status = socket === undefined ? undefined : await this.status(socket, signal);
      if (socket !== undefined && status?.ok) {
        checkServer(volumeId, status);
        return placeOf(attachment, socket);
      }
      if (clock.now() >= deadline) {
        throw new UnionError('UNAVAILABLE', `volume ${volumeId} is not served yet: ${pending(attachment, status)}`);
      }
      await clock.sleep(RETRY_INTERVAL_MS, signal);
    }
  }

  /** The same without waiting, and whether anybody listens there or not. */
  async locate(volumeId: string, signal: AbortSignal): Promise<ServerPlace | undefined> {
    const attachment = await this.#attachment(volumeId, signal);
    const socket = attachment && this.#socketOf(attachment);
    return attachment && socket !== undefined ? placeOf(attachment, socket) : undefined;
  }

  /**
   * Hands the mount's descriptors over; returns when it answers, with the connection that ends with the server. The
   * descriptors stay the caller's to close.
   */
  async serve(volumeId: string, socket: string, mount: HeldMount, signal: AbortSignal): Promise<HeldConnection> {
    const { descriptors, device, readOnly } = mount;
    // Should it need what cannot be had, it says so itself.
    await this.#options.feeding.feed(volumeId, socket, [], signal).catch(() => signal.throwIfAborted());
    const message: ServerRequest = { op: 'serve', device, readOnly };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(SERVE_LIMIT_MS)]);
    const { answer, connection } = await holdDescriptorServer({ path: socket, message, descriptors }, limit);
    const parsed = parseAcknowledgement(answer);
    if (parsed.ok) return connection;
    connection.close();
    throw errorOf(parsed.error);
  }

  /** Whether the process that listened there has ended: whoever lives can be connected to, however busy it is. */
  async isGone(socket: string, signal: AbortSignal): Promise<boolean> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(STATUS_LIMIT_MS)]);
    try {
      const { connection } = await holdDescriptorServer({ path: socket, message: { op: 'status' } }, limit);
      connection.close();
      return false;
    } catch (error) {
      signal.throwIfAborted();
      const code = error instanceof Error ? errnoCode(error.cause) : undefined;
      return code === 'ECONNREFUSED' || code === 'ENOENT';
    }
  }

  /** Throws why the server could not go on with this state memory. */
  async check(socket: string, state: number, signal: AbortSignal): Promise<void> {
    await this.#tell(socket, { op: 'check' }, { descriptors: [state], limitMs: STATUS_LIMIT_MS }, signal);
  }

  /** Has the server finish what it has begun, and end. Returns when it is about to. */
  async makeWay(socket: string, signal: AbortSignal): Promise<void> {
    await this.#tell(socket, { op: 'make-way' }, { limitMs: STOP_LIMIT_MS }, signal);
  }

  /** The descriptors with which a server serves; the caller's, as is the connection that ends with the server. */
  async takeBack(socket: string, signal: AbortSignal): Promise<Taken> {
    const message: ServerRequest = { op: 'custody' };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(STATUS_LIMIT_MS)]);
    const { answer, descriptors, connection } = await takeDescriptors({ path: socket, message }, limit);
    const parsed = parseServerCustody(answer);
    if (parsed.ok && descriptors.length > 1) {
      const { device, readOnly } = parsed.value;
      return { descriptors, connection, device, readOnly };
    }
    connection.close();
    for (const descriptor of descriptors) closeSync(descriptor);
    throw parsed.ok ? new UnionError('INTERNAL', `${socket} gave nothing back`) : errorOf(parsed.error);
  }

  /** Makes sure that the volume's server, if there is one, has closed its branches. To be called after the unmount. */
  async stop(volumeId: string, signal: AbortSignal): Promise<void> {
    const place = await this.locate(volumeId, signal);
    const status = place && (await this.status(place.socket, signal));
    if (place && status?.ok) await this.#tell(place.socket, { op: 'stop' }, { limitMs: STOP_LIMIT_MS }, signal);
    await this.#options.feeding.stop(volumeId, signal);
  }

  /** What has nothing but yes for an answer. */
  async #tell(
    path: string,
    message: ServerRequest,
    { descriptors = [], limitMs }: { readonly descriptors?: readonly number[]; readonly limitMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    const answer = parseAcknowledgement(await callDescriptorServer({ path, message, descriptors }, limit));
    if (!answer.ok) throw errorOf(answer.error);
  }

  /** How the server is. A failure is one to wait out: nobody listens yet. */
  async status(socket: string, signal: AbortSignal): Promise<ServerStatus | ServerFailure> {
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

  async #attachment(volumeId: string, signal: AbortSignal): Promise<UnionAttachment | undefined> {
    const name = attachmentNameOf(volumeId, this.#options.nodeName);
    return await this.#options.attachments.get({ name }, signal);
  }

  #socketOf({ status }: UnionAttachment): string | undefined {
    return podSocket(this.#options.kubeletDir, status?.pod);
  }
}

function placeOf({ spec, status }: UnionAttachment, socket: string): ServerPlace {
  return { socket, readOnly: spec.readOnly, restarts: status?.restarts ?? 0 };
}

/** Throws what keeps this server from serving the volume. */
export function checkServer(volumeId: string, status: ServerStatus): void {
  if (status.volume !== volumeId) {
    const message = `the server pod of volume ${volumeId} serves ${status.volume}; delete the pod to have it made again`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  if (status.state === 'failed') {
    const message = `the server of volume ${volumeId} cannot open its branches: ${status.message ?? 'no reason given'}`;
    throw new UnionError('UNAVAILABLE', message);
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
