/** Small records that are read by whoever comes next, also after a kill in the middle of writing one. */
import { renameSync, writeFileSync } from 'node:fs';

/** Whoever reads the file finds the old content or the new one, whole. A power failure may bring the old one back, or none. */
export function replaceFile(path: string, content: string): void {
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
}
