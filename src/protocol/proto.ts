/**
 * Loads csi.proto and registration.proto, the only two gRPC interfaces we speak, for servers and clients alike.
 * Fields are camelCase; 64-bit integers are decimal strings and enums their names on both ways in; absent scalars, lists
 * and maps have their defaults, absent messages are null, and a oneof's name says which member is set.
 * The types beside it in generated/ come from `npm run generate`, with the same options: keep the two in step.
 */
import { fileURLToPath } from 'node:url';
import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync, type Options } from '@grpc/proto-loader';
import type { ProtoGrpcType as CsiPackages } from './generated/csi.ts';
import type { ProtoGrpcType as RegistrationPackages } from './generated/registration.ts';

const OPTIONS: Options = { longs: String, enums: String, defaults: true, oneofs: true };

/** Package csi.v1: `Identity`, `Controller`, `GroupController`, `Node`; each is a client class and has `.service`. */
export function loadCsi(): CsiPackages['csi']['v1'] {
  const loaded = load('csi.proto') as unknown as CsiPackages;
  return loaded.csi.v1;
}

/** Package pluginregistration: `Registration`. */
export function loadRegistration(): RegistrationPackages['pluginregistration'] {
  const loaded = load('registration.proto') as unknown as RegistrationPackages;
  return loaded.pluginregistration;
}

function load(file: string) {
  return loadPackageDefinition(loadSync(fileURLToPath(new URL(file, import.meta.url)), OPTIONS));
}
