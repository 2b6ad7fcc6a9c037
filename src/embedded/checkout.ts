/** Where this program lies on disk: its launcher, its dependencies and its manifests are what an image would hold. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The directory of bin/, from src/ as from dist/. */
export const checkout = findCheckout(dirname(fileURLToPath(import.meta.url)));

function findCheckout(from: string): string {
  for (let directory = from; directory !== '/'; directory = dirname(directory)) {
    if (existsSync(join(directory, 'bin', 'union-csi'))) return directory;
  }
  throw new Error(`no bin/union-csi above ${from}; run union-csi from its checkout`);
}
