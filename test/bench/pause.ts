/** For how long a mount with a keeper answers nobody when its server is killed: with few files that the kernel knows, and with many. */
import { mkdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KeptMount } from '../support/kept-mount.ts';
import { removeFolderWithMounts } from '../support/loop-branches.ts';
import { until } from '../support/processes.ts';
import { foldersOf, learn, makeBranches } from './memory.ts';
import { atMost, median } from './table.ts';
import type { Outcome, Workshop } from './workload.ts';

export async function measurePause(
  { knownFiles, kills }: { readonly knownFiles: number; readonly kills: number },
  shop: Workshop,
): Promise<Outcome> {
  const folder = join(shop.folder, 'pause');
  const mountpoint = join(folder, 'union');
  mkdirSync(mountpoint, { recursive: true });
  const branches = makeBranches(folder, knownFiles);
  const options = ['keep=1000000', 'cache=exclusive', 'minfreespace=1M'];
  const union = new KeptMount(branches, mountpoint, options);
  try {
    const few = await pauses(union, kills);
    learn(foldersOf(mountpoint, knownFiles));
    const many = await pauses(union, kills);
    shop.say(`few files known: ${shown(few)} ms; ${knownFiles}: ${shown(many)} ms`);
    const verdicts = [
      atMost('pause when a server is killed, median', median(few), 150, 'ms'),
      atMost('pause when a server is killed, longest', Math.max(...few), 500, 'ms'),
      atMost('the same with a million known files, longest', Math.max(...many), 1500, 'ms'),
    ];
    return { verdicts, samples: { few, many } };
  } finally {
    await union.close().finally(() => removeFolderWithMounts(folder));
  }
}

const shown = (pauses: readonly number[]) => pauses.map((ms) => ms.toFixed(0)).join(', ');

async function pauses(union: KeptMount, kills: number): Promise<readonly number[]> {
  const measured: number[] = [];
  for (let kill = 0; kill < kills; kill++) {
    await until(() => union.servers().length === 2);
    await union.nextHasLoaded();
    const begin = performance.now();
    process.kill(union.servers()[0]!.pid, 'SIGKILL');
    // A name that nobody asked for: the kernel answers what it knows itself.
    await stat(join(union.mountpoint, `none-${begin}`)).catch(() => {});
    measured.push(performance.now() - begin);
  }
  return measured;
}
