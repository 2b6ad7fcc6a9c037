/**
 * Events that people see in `kubectl describe`. The same one again is one Event with a count, also after a restart of
 * ours, because its name is made of what it says. Best effort: an event that cannot be written is only logged.
 */
import { createHash } from 'node:crypto';
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { CoreEvent } from '../protocol/objects.ts';
import type { Repository } from './repository.ts';

/** The same event is not written again for so long: reconcilers repeat themselves. */
const QUIET_MS = 15_000;
/** How many events are remembered for that. */
const MAX_REMEMBERED = 1000;

export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly uid?: string | undefined;
}

export interface EventText {
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, for programs. */
  readonly reason: string;
  /** For people: what happened, to what, and what to do. */
  readonly message: string;
}

export interface EventRecorder {
  /** Never throws. */
  emit(subject: EventSubject, text: EventText, signal: AbortSignal): Promise<void>;
}

export interface EventRecorderOptions {
  readonly events: Repository<CoreEvent>;
  /** Who says so, such as `union-csi-controller`. */
  readonly component: string;
  readonly log: Logger;
  readonly clock?: Clock;
}

export function createEventRecorder({
  events,
  component,
  log,
  clock = systemClock,
}: EventRecorderOptions): EventRecorder {
  /** When each event was last written, oldest first. */
  const written = new Map<string, number>();

  const write = async (event: CoreEvent, signal: AbortSignal): Promise<void> => {
    const created = await events.create(event, signal);
    if (created.ok || created.error.kind !== 'ALREADY_EXISTS') return;
    const before = await events.get(event.metadata, signal);
    const count = (before?.count ?? 1) + 1;
    await events.patchMerge(event.metadata, { count, lastTimestamp: event.lastTimestamp }, signal);
  };

  return {
    async emit(subject, text, signal) {
      const event = build({ component, now: clock.now() }, subject, text);
      const name = event.metadata.name;
      if (clock.now() - (written.get(name) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return;
      written.delete(name);
      written.set(name, clock.now());
      if (written.size > MAX_REMEMBERED) written.delete(written.keys().next().value!);
      try {
        await write(event, signal);
      } catch (error) {
        written.delete(name);
        if (!signal.aborted) log.debug('event.failed', { reason: text.reason, message: messageOf(error) });
      }
    },
  };
}

function build(context: { component: string; now: number }, subject: EventSubject, text: EventText): CoreEvent {
  const identity = [subject.kind, subject.uid ?? subject.name, text.type, text.reason, text.message].join('\0');
  const hash = createHash('sha256').update(identity).digest('hex').slice(0, 16);
  const time = new Date(context.now).toISOString();
  return {
    apiVersion: 'v1',
    kind: 'Event',
    // Events of cluster-scoped objects live in `default`, where kubectl describe looks for them.
    metadata: { name: `${subject.name}.${hash}`, namespace: subject.namespace ?? 'default' },
    involvedObject: {
      apiVersion: subject.apiVersion,
      kind: subject.kind,
      name: subject.name,
      ...(subject.namespace !== undefined && { namespace: subject.namespace }),
      ...(subject.uid !== undefined && { uid: subject.uid }),
    },
    type: text.type,
    reason: text.reason,
    message: text.message,
    source: { component: context.component },
    reportingComponent: context.component,
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}
