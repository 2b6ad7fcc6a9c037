/** Events as kubectl describe shows them. The same event about the same object is counted, not repeated. */
import { createHash } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import type { KubeObject } from '../../protocol/objects.ts';
import { events } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import { StoreError } from '../api-server/store-error.ts';

export interface EventRecorder {
  normal(about: KubeObject, reason: string, message: string): void;
  warning(about: KubeObject, reason: string, message: string): void;
}

/** `component` is who says it, as in the column "From". */
export function createEventRecorder(store: Store, component: string, clock: Clock): EventRecorder {
  const record = (about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string) => {
    const { namespace = 'default', name, uid = '', resourceVersion = '' } = about.metadata;
    const hash = createHash('sha256')
      .update(JSON.stringify([uid, type, reason, message, component]))
      .digest('hex');
    const ref = { namespace, name: `${name}.${hash.slice(0, 16)}` };
    const now = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    if (store.get(events, ref)) {
      store.modify(events, ref, (event) => ({ ...event, count: (event.count ?? 1) + 1, lastTimestamp: now }));
      return;
    }
    const { apiVersion, kind } = about;
    store.create(events, {
      metadata: ref,
      involvedObject: { apiVersion, kind, name, uid, resourceVersion, ...(about.metadata.namespace && { namespace }) },
      type,
      reason,
      message: message.slice(0, 1024),
      source: { component },
      reportingComponent: component,
      count: 1,
      firstTimestamp: now,
      lastTimestamp: now,
    });
  };
  const tell = (about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string) => {
    try {
      record(about, type, reason, message);
    } catch (error) {
      // The namespace is going, and nobody will look: an event never fails the work it tells of.
      if (!(error instanceof StoreError)) throw error;
    }
  };
  return {
    normal: (about, reason, message) => tell(about, 'Normal', reason, message),
    warning: (about, reason, message) => tell(about, 'Warning', reason, message),
  };
}
