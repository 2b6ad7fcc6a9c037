/** Pods share the machine's network. Each has a loopback address of its own, so that all may listen on the same port. */
import { createHash } from 'node:crypto';
import type { Pod } from '../../protocol/objects.ts';

/** One of 127.1.0.1 to 127.254.255.254, by the pod's UID. */
export function podAddress({ metadata }: Pod): string {
  const [a = 0, b = 0, c = 0] = createHash('sha256')
    .update(metadata.uid ?? metadata.name)
    .digest();
  return `127.${1 + (a % 254)}.${b}.${1 + (c % 254)}`;
}
