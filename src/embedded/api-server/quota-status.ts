/** Keeps `status.used` of ResourceQuotas true to the claims of their namespaces, as kube-controller-manager does. */
import { formatQuantity } from '../../base/units.ts';
import { claimUsage } from './admission.ts';
import { kindKey, persistentVolumeClaims, resourceQuotas } from './kinds.ts';
import type { Store } from './store.ts';

const CONCERNED = [kindKey(persistentVolumeClaims), kindKey(resourceQuotas)];

/** Runs until the store is closed. */
export function followQuotas(store: Store): void {
  store.subscribe(undefined, undefined, (changes) => {
    const concerned = changes.filter((change) => CONCERNED.includes(change.kindKey));
    const namespaces = new Set(concerned.map(({ before, after }) => (after ?? before)?.metadata.namespace));
    for (const namespace of namespaces)
      for (const quota of store.list(resourceQuotas, { namespace })) {
        const claims = [...store.objects(persistentVolumeClaims).values()];
        const usage = claimUsage(claims.filter((claim) => claim.metadata.namespace === namespace));
        const hard = quota.spec?.hard ?? {};
        const used = Object.keys(hard).map((resource) => [resource, formatQuantity(usage.get(resource) ?? 0n)]);
        quota.status = { hard, used: Object.fromEntries(used) };
        store.update(resourceQuotas, quota, { subresource: 'status' });
      }
  });
}
