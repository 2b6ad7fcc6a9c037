/** `directory.embedded.union.csi.dev`: a volume is a directory of this machine's disk. No size is enforced. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Backend } from './lower-driver.ts';

export const directoryBackend: Backend = {
  name: 'directory.embedded.union.csi.dev',
  stages: false,
  async make(directory) {
    mkdirSync(join(directory, 'data'));
  },
  async assertUnused() {},
  async stage() {},
  publishSource: (directory) => join(directory, 'data'),
  async grow() {},
  async fill() {},
};
