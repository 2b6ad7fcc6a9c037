/** From a URL's path to the resource it names. Pure. */
import { apiVersionOf, type KindInfo } from './kinds.ts';

export interface ResourceRoute {
  readonly info: KindInfo;
  readonly namespace: string | undefined;
  /** Absent: the collection. */
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  /** Of the subresource proxy: what of the pod is asked for. */
  readonly proxyPath?: string;
}

/** `/api/v1/…` or `/apis/GROUP/VERSION/…`, with `namespaces/NAMESPACE/` or without; undefined when nothing is served there. */
export function resourceRoute(kinds: readonly KindInfo[], path: string): ResourceRoute | undefined {
  const match = /^\/(?:api\/(v1)|apis\/([^/]+\/[^/]+))\/(.+?)\/?$/.exec(path);
  if (!match) return undefined;
  const groupVersion = match[1] ?? match[2];
  const segments = match[3]!.split('/').map(decodeSegment);
  const kindOf = (plural: string | undefined) =>
    kinds.find((info) => info.plural === plural && apiVersionOf(info) === groupVersion);
  const isNamespaced = segments[0] === 'namespaces' && segments.length >= 3;
  const within = isNamespaced ? kindOf(segments[2]) : undefined;
  if (within?.namespaced) return route(within, segments[1], segments.slice(3));
  const info = kindOf(segments[0]);
  // Objects in a namespace are only named within it; their list goes over all namespaces.
  if (!info || (info.namespaced && segments.length > 1)) return undefined;
  return route(info, undefined, segments.slice(1));
}

function route(info: KindInfo, namespace: string | undefined, rest: readonly string[]): ResourceRoute | undefined {
  const [name, subresource] = rest;
  const isPod = info.plural === 'pods' && info.group === '';
  if (subresource === 'proxy' && isPod) {
    return { info, namespace, name, subresource, proxyPath: `/${rest.slice(2).join('/')}` };
  }
  if (rest.length > 2) return undefined;
  const known = subresource === undefined || (subresource === 'status' && info.hasStatus);
  const isLog = subresource === 'log' && isPod;
  return known || isLog ? { info, namespace, name, subresource } : undefined;
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
