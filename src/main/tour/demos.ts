/** What the guided tour can show: manifests, the cluster they want, and what happens while their pod works. */
import { join } from 'node:path';
import { checkout } from '../../embedded/checkout.ts';
import type { Cluster } from '../../embedded/cluster.ts';
import { blockDriver, type DriverPlaces, type ExternalDriver, unionDriver } from '../../embedded/union-driver.ts';
import { loseNode } from './lost-node.ts';
import type { Progress } from './progress.ts';

export interface Demo {
  readonly directory: string;
  readonly nodes: number;
  readonly drivers: (places: DriverPlaces) => readonly ExternalDriver[];
  /** Done when the pod runs, before the tour waits for what it says. */
  readonly meanwhile?: (stage: Stage) => Promise<void>;
}

export interface Stage {
  readonly cluster: Cluster;
  readonly pod: { readonly namespace: string; readonly name: string };
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** By name. */
export const DEMOS: ReadonlyMap<string, Demo> = new Map<string, Demo>([
  ['quickstart', demoOf(join(checkout, 'examples', 'quickstart'))],
  [
    'replicated',
    {
      directory: join(checkout, 'examples', 'replicated'),
      nodes: 3,
      drivers: (places) => [unionDriver(places), blockDriver(places)],
      meanwhile: loseNode,
    },
  ],
]);

/** Somebody's own manifests. */
export function demoOf(directory: string): Demo {
  return { directory, nodes: 1, drivers: (places) => [unionDriver(places)] };
}
