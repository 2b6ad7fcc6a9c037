/**
 * Makes kubelet find the driver: kubelet watches plugins_registry for sockets and asks each who it is (pluginregistration v1).
 * This replaces the node-driver-registrar sidecar.
 */
import { join } from 'node:path';
import type { Logger } from '../base/logger.ts';
import { loadRegistration } from '../protocol/proto.ts';
import { type CsiServer, implement, startCsiServer } from './server.ts';

export interface RegistrationOptions {
  readonly driver: string;
  readonly kubeletDir: string;
  /** Path of the CSI socket, as kubelet sees it. */
  readonly csiSocket: string;
  readonly log: Logger;
}

/** Listens until the signal aborts; kubelet forgets the driver when the socket goes. */
export async function startRegistration(options: RegistrationOptions, signal: AbortSignal): Promise<CsiServer> {
  const { driver, kubeletDir, csiSocket, log } = options;
  const service = implement(loadRegistration().Registration.service, {
    GetInfo: async () => ({
      type: 'CSIPlugin',
      name: driver,
      endpoint: csiSocket,
      supportedVersions: ['1.0.0'],
    }),
    NotifyRegistrationStatus: async ({ pluginRegistered, error }) => {
      if (pluginRegistered) log.info('node.registered');
      else log.error('node.registration_failed', { error });
      return {};
    },
  });
  const endpoint = join(kubeletDir, 'plugins_registry', `${driver}-reg.sock`);
  return await startCsiServer({ endpoint, services: [service], log }, signal);
}
