/** Reading what a pod of the embedded cluster prints, as `kubectl logs -f` does. */
import { UnionError } from '../../base/errors.ts';
import { pods } from '../../embedded/api-server/kinds.ts';
import type { Store } from '../../embedded/api-server/store.ts';
import { createLogReader, kubeletDirectory } from '../../embedded/kubelet/log-reader.ts';

export interface PodOutput {
  readonly store: Store;
  readonly clusterDir: string;
  readonly pod: { readonly namespace: string; readonly name: string };
  /** The line that ends the reading, itself not answered. */
  readonly until: string;
}

/** The lines of the pod's first container up to `until`. Throws when it ends before, with what it printed last. */
export async function readOutput({ store, clusterDir, pod, until }: PodOutput, signal: AbortSignal): Promise<string[]> {
  const running = store.get(pods, pod);
  const read = createLogReader((node) => kubeletDirectory(clusterDir, node));
  const container = running?.spec?.containers[0]?.name ?? '';
  const request = {
    namespace: pod.namespace,
    pod: pod.name,
    podUid: running?.metadata.uid ?? '',
    node: running?.spec?.nodeName ?? '',
    container,
    follow: true,
    previous: false,
    timestamps: false,
  };
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of read(request, signal)) {
    text += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true });
    const lines = text.split('\n');
    const end = lines.indexOf(until);
    if (end >= 0) return lines.slice(0, end);
  }
  signal.throwIfAborted();
  const last = text.trimEnd().split('\n').at(-1) ?? '';
  throw new UnionError('ABORTED', `pod ${pod.name} ended before it was ${until}; its last words: ${last}`);
}
