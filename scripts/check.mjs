/** `npm run check`: types (tsc) and lint (Biome), both to the end, so that one run shows everything there is. */
import { spawnSync } from 'node:child_process';

const commands = [
  ['tsc', ['-p', '.']],
  ['biome', ['check', '.']],
];
const failed = commands.filter(([name, args]) => spawnSync(name, args, { stdio: 'inherit' }).status !== 0);
process.exit(failed.length > 0 ? 1 : 0);
