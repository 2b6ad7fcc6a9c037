/**
 * `npm run build`: dist/ with JavaScript in place of TypeScript, laid out as the repository is, so that paths relative to
 * a module stay true: what is not TypeScript under fuse/ and src/, and the manifests, are copied beside it.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');

rmSync(dist, { recursive: true, force: true });
const { status } = spawnSync(
  process.execPath,
  [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
if (status !== 0) process.exit(1);
for (const folder of ['fuse', 'src', 'deploy', 'examples']) {
  const source = join(root, folder);
  if (!existsSync(source)) continue;
  cpSync(source, join(dist, folder), {
    recursive: true,
    filter: (path) => statSync(path).isDirectory() || !/\.(ts|md)$/.test(path),
  });
}
