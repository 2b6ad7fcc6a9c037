/** The patch formats, by their media types. Server-side apply is not one of them: the real thing needs field managers. */
import { applyJsonPatch } from './json-patch.ts';
import type { KindInfo } from './kinds.ts';
import { applyMergePatch } from './merge-patch.ts';
import { type ApiObject, isObject } from './objects.ts';
import { badRequest, StoreError } from './store-error.ts';
import { applyStrategicPatch } from './strategic-patch.ts';

export type PatchType = 'json' | 'merge' | 'strategic';

const MEDIA_TYPES: { readonly [mediaType: string]: PatchType } = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
};

/** 415 for formats that are not spoken, strategic patches of custom resources among them, as a real server does. */
export function patchTypeOf(contentType: string | undefined, info: KindInfo): PatchType {
  const mediaType = (contentType ?? '').split(';')[0]!.trim();
  const type = MEDIA_TYPES[mediaType];
  if (type && !(type === 'strategic' && info.custom)) return type;
  const known = Object.keys(MEDIA_TYPES).filter((item) => !(info.custom && MEDIA_TYPES[item] === 'strategic'));
  const message = `the body of the request was in an unknown format - accepted media types include: ${known.join(', ')}`;
  throw new StoreError(415, 'UnsupportedMediaType', message);
}

export function applyPatch(target: ApiObject, patch: unknown, type: PatchType): ApiObject {
  const result = patched(target, patch, type);
  if (!isObject(result)) throw badRequest('the patch does not leave an object');
  return result;
}

function patched(target: ApiObject, patch: unknown, type: PatchType): unknown {
  switch (type) {
    case 'json':
      return applyJsonPatch(target, patch);
    case 'merge':
      return applyMergePatch(target, patch);
    case 'strategic':
      return applyStrategicPatch(target, patch, target.kind ?? '');
  }
}
