/** Which objects a list or watch is about, and how a change looks to it. Pure. */
import type { Change } from './history.ts';
import { type Kind, type KindInfo, kindKey } from './kinds.ts';
import type { StoredObject } from './objects.ts';
import { type Predicate, parseFieldSelector, parseLabelSelector } from './selectors.ts';

export interface Selection {
  /** Absent: all namespaces. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
}

export interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: T;
}

export function selector(kind: Kind | KindInfo, selection: Selection): Predicate {
  const custom = 'custom' in kind ? kind.custom?.selectableFields : undefined;
  const byLabel = parseLabelSelector(selection.labelSelector ?? '');
  const byField = parseFieldSelector(selection.fieldSelector ?? '', kindKey(kind), custom);
  return (object) =>
    (selection.namespace === undefined || object.metadata?.namespace === selection.namespace) &&
    byLabel(object) &&
    byField(object);
}

/** How a change looks to a watcher of the selected objects; undefined when it does not concern them. */
export function eventOf(change: Change, selects: Predicate): WatchEvent<StoredObject> | undefined {
  const was = change.before && selects(change.before) ? change.before : undefined;
  if (change.after && selects(change.after)) return { type: was ? 'MODIFIED' : 'ADDED', object: change.after };
  if (!was) return undefined;
  const last = change.after ?? was;
  const metadata = { ...last.metadata, resourceVersion: String(change.resourceVersion) };
  return { type: 'DELETED', object: { ...last, metadata } };
}
