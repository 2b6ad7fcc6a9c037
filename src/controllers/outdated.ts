/**
 * Server pods of another version than ours are replaced one after the other on each node: a successor beside each takes memory, and
 * one that does not come up stops the rest. Caches say who is next; the plan looks live.
 */
import type { Pod } from '../protocol/objects.ts';
import { LABEL_ATTACHMENT, LABEL_BRANCH } from '../protocol/resources.ts';
import { isOutdated } from '../union/plan-attachment.ts';
import type { ReconcilerDeps } from './cluster-view.ts';

type Deps = Pick<ReconcilerDeps, 'view' | 'server'>;

/** Whether a server of no other attachment of that node is just being replaced. */
export function mayReplace({ view }: Deps, attachment: string, node: string): boolean {
  const seen = new Set<string>();
  for (const { name, pod } of serversOn(view, node)) {
    if (name === attachment) continue;
    if (pod.metadata.deletionTimestamp || seen.has(name)) return false;
    seen.add(name);
  }
  return true;
}

/** The attachment whose server is to be replaced after that of another one on its node; from the first name again if `wraps`. */
export function nextOutdated({ view, server }: Deps, after: string, { wraps }: { wraps: boolean }): string | undefined {
  const node = view.attachments.informer.get(after)?.spec.node;
  if (node === undefined) return undefined;
  const names = serversOn(view, node)
    .filter(({ pod }) => !pod.metadata.deletionTimestamp && isOutdated(pod, server))
    .map(({ name }) => name)
    .sort();
  return names.find((name) => name > after) ?? (wraps ? names[0] : undefined);
}

function serversOn(view: Deps['view'], node: string): readonly { readonly name: string; readonly pod: Pod }[] {
  return view.pods.informer.list().flatMap((pod) => {
    const name = pod.metadata.labels?.[LABEL_ATTACHMENT];
    if (name === undefined || pod.metadata.labels?.[LABEL_BRANCH] !== undefined) return [];
    return view.attachments.informer.get(name)?.spec.node === node ? [{ name, pod }] : [];
  });
}
