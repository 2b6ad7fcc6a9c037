/** What a controller does in one replica only: the work of its leader, until it is stopped or leadership is lost. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import { LEASE } from '../kubernetes/kinds.ts';
import { runAsLeader } from '../kubernetes/lease.ts';
import { createRepository } from '../kubernetes/repository.ts';
import { DRIVER_NAMESPACE } from '../protocol/resources.ts';

export interface LeadershipOptions {
  readonly client: KubeClient;
  /** Of the Lease. */
  readonly name: string;
  /** False: there is one replica, and no election. */
  readonly elect: boolean;
  readonly log: Logger;
}

/** Resolves after the signal with 0, or with 1 when the work failed or leadership was lost. */
export async function leadUntilStopped(
  { client, name, elect, log }: LeadershipOptions,
  lead: (term: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<number> {
  const election = {
    leases: createRepository(client, LEASE),
    namespace: DRIVER_NAMESPACE,
    name,
    identity: `${hostname()}_${randomBytes(4).toString('hex')}`,
    log,
  };
  try {
    await (elect ? runAsLeader(election, lead, signal) : lead(signal));
    return 0;
  } catch (error) {
    log.error('controller.failed', { message: messageOf(error) });
    return 1;
  }
}
