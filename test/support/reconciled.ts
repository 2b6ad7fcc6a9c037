/** The reconcilers running over a control plane, and what the Controller service needs beside them. */
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { runControllers } from '../../src/controllers/run.ts';
import { type ControllerDependencies, controllerRepositories } from '../../src/csi/controller-common.ts';
import { watchRoom } from '../../src/csi/room.ts';
import { createInformer } from '../../src/kubernetes/informer.ts';
import { UNION_ATTACHMENT, UNION_VOLUME } from '../../src/kubernetes/kinds.ts';
import type { ControlPlane } from './control-plane.ts';

export interface Reconciled {
  readonly dependencies: ControllerDependencies;
  stop(): Promise<void>;
}

export function startReconciled({ client }: ControlPlane): Reconciled {
  const stop = new AbortController();
  const log = silentLogger;
  const volumeChanges = createInformer({ client, kind: UNION_VOLUME, log });
  const attachmentChanges = createInformer({ client, kind: UNION_ATTACHMENT, log });
  const room = watchRoom(client, log);
  const running = Promise.all([
    ...[volumeChanges, attachmentChanges, ...Object.values(room)].map((kind) => kind.start(stop.signal)),
    runControllers({ client, log, server: { image: 'union-csi:test' } }, stop.signal),
  ]);
  return {
    dependencies: {
      ...controllerRepositories(client),
      room,
      volumeChanges,
      attachmentChanges,
      clock: systemClock,
    },
    async stop() {
      stop.abort();
      await running;
    },
  };
}
