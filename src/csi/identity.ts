/** The CSI Identity service, served beside Controller and Node alike: who we are and whether we can work yet. */
import type { IdentityDefinition } from '../protocol/generated/csi/v1/Identity.ts';
import { DRIVER_NAME } from '../protocol/resources.ts';
import type { Handlers } from './server.ts';

export interface IdentityOptions {
  readonly version: string;
  /** Whether calls can succeed yet: caches are filled. */
  readonly isReady: () => boolean;
}

export function identityHandlers({ version, isReady }: IdentityOptions): Handlers<IdentityDefinition> {
  return {
    GetPluginInfo: async () => ({ name: DRIVER_NAME, vendorVersion: version }),
    GetPluginCapabilities: async () => ({
      capabilities: [
        { service: { type: 'CONTROLLER_SERVICE' } },
        { service: { type: 'VOLUME_ACCESSIBILITY_CONSTRAINTS' } },
        { volumeExpansion: { type: 'ONLINE' } },
      ],
    }),
    Probe: async () => ({ ready: { value: isReady() } }),
  };
}
