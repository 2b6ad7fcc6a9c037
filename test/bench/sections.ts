/** The parts of the benchmark: who competes in each, and the bars that the union has to reach (design, "Speed"). */
import { contenderNames } from './contenders.ts';
import { measureMemory } from './memory.ts';
import {
  BOUND,
  type Comparison,
  type Figures,
  formatTable,
  judge,
  type Medians,
  medians,
  metadataPhases,
  type Phase,
  phases,
  withBound,
} from './table.ts';
import { measureTree } from './tree.ts';
import { type Entry, measure, type Outcome, type Scale, type Workshop } from './workload.ts';

export interface Plan {
  readonly rounds: number;
  readonly files: number;
  readonly mebibytes: number;
  readonly branches: number;
  readonly phases: readonly Phase[];
  readonly contenders: readonly string[];
  /** Files of the tree that is unpacked, and of the one that the kernel is made to know. */
  readonly treeFiles: number;
  readonly knownFiles: number;
}

export interface Section {
  readonly about: string;
  run(plan: Plan, shop: Workshop): Promise<Outcome>;
}

const onOneCpu = { branches: 4, cpus: 'one CPU', clients: 1 } as const;

const [union, mergerfs] = ['union', 'mergerfs'];
const against = (peer: string, ratio: number, ...of: Phase[]): Comparison[] =>
  of.map((phase) => ({ phase, of: union, against: peer, ratio, limit: { of: BOUND, against: peer } }));

const operationBars: readonly Comparison[] = [
  ...against(mergerfs, 2, 'create', 'stat_cold', 'missing_cold', 'ls_cold', 'rename'),
  ...against(mergerfs, 1.5, 'open_read', 'unlink'),
  ...against(mergerfs, 1, 'missing_warm', 'readdir'),
  ...against('null', 0.85, 'missing_cold'),
  ...against('native', 0.95, 'sequential_write', 'sequential_read', 'random_write', 'random_read'),
];

/** What one client on one CPU does, and the union on every CPU with as many clients as people have. */
const people = (
  name: string,
  contender: 'union' | 'mergerfs' | 'null',
  clients: number,
  cpus: Entry['cpus'],
): Entry => ({
  name,
  contender,
  branches: 4,
  cpus,
  clients,
});
const crowd: readonly Entry[] = [
  people('mergerfs, 1 client', 'mergerfs', 1, 'every CPU'),
  people('union, 1 client', 'union', 1, 'every CPU'),
  people('mergerfs, 4 clients', 'mergerfs', 4, 'every CPU'),
  people('union, 4 clients', 'union', 4, 'every CPU'),
  people('union, 1 client on 1 CPU', 'union', 1, 'one CPU'),
  people('null, 4 clients', 'null', 4, 'every CPU'),
  people('null, 1 client on 1 CPU', 'null', 1, 'one CPU'),
];
const asPeopleRunIt: readonly Phase[] = ['create', 'stat_cold', 'missing_cold', 'rename'];
/** For these what the null server gains with four clients is all that there is to gain. */
const withoutLowerCalls: readonly Phase[] = ['stat_cold', 'missing_cold'];
const crowdBars: readonly Comparison[] = [
  ...['1 client', '4 clients'].flatMap((clients) =>
    asPeopleRunIt.map((phase) => ({ phase, of: `union, ${clients}`, against: `mergerfs, ${clients}`, ratio: 2 })),
  ),
  ...asPeopleRunIt.map((phase) => ({
    phase,
    of: 'union, 4 clients',
    against: 'union, 1 client on 1 CPU',
    ratio: 1.6,
    ...(withoutLowerCalls.includes(phase) && { limit: { of: 'null, 4 clients', against: 'null, 1 client on 1 CPU' } }),
  })),
];

const flatEntries: readonly Entry[] = [1, 8].map((branches) => ({
  ...onOneCpu,
  name: branches === 1 ? '1 branch' : `${branches} branches`,
  contender: union as 'union',
  branches,
}));
const flatBars: readonly Comparison[] = phases.map((phase) => ({
  phase,
  of: '8 branches',
  against: '1 branch',
  ratio: 0.9,
}));

export const sections: Readonly<Record<string, Section>> = {
  operations: {
    about: 'one client, everything on one CPU: all contenders',
    run: (plan, shop) => {
      const entries = contenderNames
        .filter((name) => plan.contenders.includes(name))
        .map((contender) => ({ ...onOneCpu, name: contender, contender, branches: plan.branches }));
      return compete(entries, { ...plan }, operationBars, shop);
    },
  },
  flat: {
    about: 'eight branches beside one, on one CPU',
    run: (plan, shop) => compete(flatEntries, { ...plan }, flatBars, shop),
  },
  clients: {
    about: 'nothing pinned: one and four clients beside mergerfs, four on all CPUs beside one on one',
    run: (plan, shop) =>
      compete(
        crowd,
        { ...plan, phases: plan.phases.filter((phase) => metadataPhases.includes(phase)) },
        crowdBars,
        shop,
      ),
  },
  tree: {
    about: 'a source tree unpacked, and `git status` in it, beside mergerfs',
    run: (plan, shop) => measureTree({ rounds: Math.min(plan.rounds, 3), files: plan.treeFiles }, shop),
  },
  memory: {
    about: 'memory of an idle server and of known files, time until a mount answers',
    run: (plan, shop) => measureMemory({ knownFiles: plan.knownFiles, rounds: plan.rounds }, shop),
  },
};

async function compete(
  entries: readonly Entry[],
  scale: Scale,
  bars: readonly Comparison[],
  shop: Workshop,
): Promise<Outcome> {
  const samples: Record<string, Figures[]> = await measure(entries, scale, shop);
  const measured: Medians = withBound(
    Object.fromEntries(Object.entries(samples).map(([name, runs]) => [name, medians(runs)])),
  );
  const wanted = bars.filter(({ phase }) => scale.phases.includes(phase));
  shop.say(`\n${formatTable(measured, wanted)}\n`);
  return { verdicts: judge(measured, wanted), samples };
}
