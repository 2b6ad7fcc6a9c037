/** All reconcilers of the controller role, on one view of the cluster. To be run by one process at a time: the leader. */
import type { Logger } from '../base/logger.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import type { WorkMeasurement } from '../kubernetes/workqueue.ts';
import type { ServerPodOptions } from '../union/server-pod.ts';
import { createClusterView, createDeps, runInformers } from './cluster-view.ts';
import { runUnionAttachmentController } from './union-attachment.ts';
import { runUnionVolumeController } from './union-volume.ts';

export interface ControllersOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly server: ServerPodOptions;
  /** Told of each piece of work. */
  readonly measure?: ((measurement: WorkMeasurement) => void) | undefined;
}

/** Resolves when the signal has aborted and the work under way has ended. */
export async function runControllers(
  { client, log, server, measure }: ControllersOptions,
  signal: AbortSignal,
): Promise<void> {
  const view = createClusterView(client, log);
  const deps = { ...createDeps(view, { log, server }), measure };
  await Promise.all([
    runInformers(view, signal),
    runUnionVolumeController(deps, signal),
    runUnionAttachmentController(deps, signal),
  ]);
}
