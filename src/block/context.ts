/** What the roles of a replica (primary.ts, backup.ts) share: its disk, its knowledge, and its ways to the outside. */
import type { Decisions } from './decisions.ts';
import type { Membership } from './membership.ts';
import type { Message } from './messages.ts';
import type { ClientAnswer } from './ports.ts';
import type { Store } from './store.ts';
import type { Task } from './tasks.ts';
import type { ReplicaId } from './units.ts';

export interface Context {
  readonly id: ReplicaId;
  readonly store: Store;
  readonly decisions: Decisions;
  readonly membership: Membership;
  /** How many in-sync members it takes to answer flushes. */
  readonly minInSync: number;
  /** Local time of the event being handled. */
  now(): number;
  send(to: ReplicaId, message: Message): void;
  answer(request: number, answer: ClientAnswer): void;
  start(task: Task): void;
}
