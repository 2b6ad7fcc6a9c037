/** Events about a union go to our object and to the claim that its user knows. */
import type { EventSubject } from '../kubernetes/events.ts';
import type { KubeObject } from '../protocol/objects.ts';
import type { UnionVolumeSpec } from '../protocol/resources.ts';
import type { PlannedEvent } from '../union/conditions.ts';
import type { ReconcilerDeps } from './cluster-view.ts';

/** The API server refuses longer messages. */
const MAX_MESSAGE_CHARACTERS = 1000;

export async function tell(
  { recorder, view }: ReconcilerDeps,
  about: { readonly object: KubeObject; readonly claim: UnionVolumeSpec['claim']; readonly event: PlannedEvent },
  signal: AbortSignal,
): Promise<void> {
  const { object, claim, event } = about;
  const { message } = event;
  const text = {
    ...event,
    message: message.length > MAX_MESSAGE_CHARACTERS ? `${message.slice(0, MAX_MESSAGE_CHARACTERS)}…` : message,
  };
  const { apiVersion, kind, metadata } = object;
  const subjects: EventSubject[] = [{ apiVersion, kind, name: metadata.name, uid: metadata.uid }];
  if (claim) {
    const uid = view.claims.informer.get(`${claim.namespace}/${claim.name}`)?.metadata.uid;
    subjects.push({ apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim, uid });
  }
  await Promise.all(subjects.map((subject) => recorder.emit(subject, text, signal)));
}
