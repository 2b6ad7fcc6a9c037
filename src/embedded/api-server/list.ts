/**
 * Lists in pages. A continued list is that of the resourceVersion it began with: later changes are undone from the
 * history; when that no longer reaches back the client gets 410 and begins anew.
 */
import { type KindInfo, kindKey } from './kinds.ts';
import { isObject, type StoredObject } from './objects.ts';
import { type Selection, selector } from './selection.ts';
import { objectKey, type Store } from './store.ts';
import { badRequest } from './store-error.ts';

export interface ListRequest extends Selection {
  readonly limit?: number | undefined;
  readonly continue?: string | undefined;
  /** The list as it was then. */
  readonly exactResourceVersion?: string | undefined;
}

export interface Page {
  readonly items: readonly StoredObject[];
  readonly resourceVersion: string;
  readonly continue?: string;
  readonly remainingItemCount?: number;
}

export function listPage(store: Store, info: KindInfo, request: ListRequest): Page {
  const token = request.continue ? parseToken(request.continue) : undefined;
  const resourceVersion = token?.resourceVersion ?? request.exactResourceVersion ?? store.resourceVersion;
  const selects = selector(info, request);
  const objects = objectsAt(store, info, resourceVersion);
  const keys = [...objects.keys()].filter((key) => selects(objects.get(key)!)).sort();
  const rest = token ? keys.filter((key) => key > token.after) : keys;
  const limit = request.limit && request.limit > 0 ? request.limit : rest.length;
  const items = rest.slice(0, limit).map((key) => objects.get(key)!);
  if (rest.length <= limit) return { items, resourceVersion };
  const next = { resourceVersion, after: rest[limit - 1]! };
  return {
    items,
    resourceVersion,
    continue: Buffer.from(JSON.stringify(next)).toString('base64url'),
    remainingItemCount: rest.length - limit,
  };
}

function objectsAt(store: Store, info: KindInfo, resourceVersion: string): ReadonlyMap<string, StoredObject> {
  const now = store.objects(info);
  if (resourceVersion === store.resourceVersion) return now;
  const then = new Map(now);
  for (const change of store.changesSince(resourceVersion).toReversed()) {
    if (change.kindKey !== kindKey(info)) continue;
    const key = objectKey(info, (change.after ?? change.before)!.metadata);
    if (change.before) then.set(key, change.before);
    else then.delete(key);
  }
  return then;
}

function parseToken(text: string): { resourceVersion: string; after: string } {
  try {
    const token: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    if (isObject(token) && typeof token.resourceVersion === 'string' && typeof token.after === 'string')
      return { resourceVersion: token.resourceVersion, after: token.after };
  } catch {
    // Not one of our tokens.
  }
  throw badRequest('continue key is not valid; list again without it');
}
