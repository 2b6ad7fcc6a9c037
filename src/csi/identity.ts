/** The CSI Identity service, served beside Controller and Node alike: who we are and whether we can work yet. */
import { BLOCK_DRIVER_NAME } from '../protocol/block-resources.ts';
import type { IdentityDefinition } from '../protocol/generated/csi/v1/Identity.ts';
import type { PluginCapability } from '../protocol/generated/csi/v1/PluginCapability.ts';
import { DRIVER_NAME } from '../protocol/resources.ts';
import type { Handlers } from './server.ts';

export interface Plugin {
  readonly driver: string;
  readonly capabilities: readonly PluginCapability[];
}

/** A union is where all its branches can be reached. */
export const UNION_PLUGIN: Plugin = {
  driver: DRIVER_NAME,
  capabilities: [
    { service: { type: 'CONTROLLER_SERVICE' } },
    { service: { type: 'VOLUME_ACCESSIBILITY_CONSTRAINTS' } },
    { volumeExpansion: { type: 'ONLINE' } },
  ],
};

/** Every node reaches every block volume; topology only tells where the first pod will run. */
export const BLOCK_PLUGIN: Plugin = {
  driver: BLOCK_DRIVER_NAME,
  capabilities: [
    { service: { type: 'CONTROLLER_SERVICE' } },
    { service: { type: 'VOLUME_ACCESSIBILITY_CONSTRAINTS' } },
    { volumeExpansion: { type: 'ONLINE' } },
  ],
};

export interface IdentityOptions {
  readonly plugin: Plugin;
  readonly version: string;
  /** Whether calls can succeed yet: caches are filled. */
  readonly isReady: () => boolean;
}

export function identityHandlers({ plugin, version, isReady }: IdentityOptions): Handlers<IdentityDefinition> {
  return {
    GetPluginInfo: async () => ({ name: plugin.driver, vendorVersion: version }),
    GetPluginCapabilities: async () => ({ capabilities: [...plugin.capabilities] }),
    Probe: async () => ({ ready: { value: isReady() } }),
  };
}
