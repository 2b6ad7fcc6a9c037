/** The parts of the benchmark: who competes in each, and the bars that the union has to reach (design, "Speed"). */
import { contenderNames } from './contenders.ts';
import { measureData, measureFlatData } from './data.ts';
import { measureFrozen } from './frozen.ts';
import { measureJournal } from './journal.ts';
import { measureMemory } from './memory.ts';
import { measurePause } from './pause.ts';
import {
  BOUND,
  type Comparison,
  type Figures,
  formatTable,
  judge,
  lowerPhases,
  type Medians,
  medians,
  metadataPhases,
  type Phase,
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
  of.map((phase) => {
    const most = lowerPhases.includes(phase) ? 'least' : BOUND;
    return { phase, of: union, against: peer, ratio, limit: { of: most, against: peer } };
  });

const operationBars: readonly Comparison[] = [
  ...against(mergerfs, 2, 'create', 'stat_cold', 'missing_cold', 'ls_cold', 'rename'),
  ...against(mergerfs, 1.5, 'open_read', 'unlink'),
  ...against(mergerfs, 1, 'missing_warm', 'readdir'),
  ...against('null', 0.85, 'missing_cold'),
];

/** As people have them, on every CPU; and what one client does on one CPU, to see what further CPUs bring. */
const [ONE, FOUR, ALONE] = ['1 client', '4 clients', '1 client on 1 CPU'];
const people = (...names: readonly ('native' | 'mergerfs' | 'null' | 'union')[]): Entry[] =>
  names.flatMap((contender) => [
    { name: `${contender}, ${ONE}`, contender, branches: 4, cpus: 'every CPU', clients: 1 },
    { name: `${contender}, ${FOUR}`, contender, branches: 4, cpus: 'every CPU', clients: 4 },
  ]);
const alone = (...names: readonly ('native' | 'null' | 'union')[]): Entry[] =>
  names.map((contender) => ({ ...onOneCpu, name: `${contender}, ${ALONE}`, contender }));
const crowd = [...people('native', 'mergerfs', 'null', 'union'), ...alone('native', 'null', 'union')];
const asPeopleRunIt: readonly Phase[] = ['create', 'stat_cold', 'missing_cold', 'rename'];
const compared = (of: string, peer: string, setting: string, ratio: number): Comparison[] =>
  asPeopleRunIt.map((phase) => ({
    phase,
    of: `union, ${of}`,
    against: `${peer}, ${setting}`,
    ratio,
    limit: { of: `${BOUND}, ${of}`, against: peer === union ? `${BOUND}, ${setting}` : `${peer}, ${setting}` },
  }));
const crowdBars: readonly Comparison[] = [
  ...compared(ONE, mergerfs, ONE, 2),
  ...compared(FOUR, mergerfs, FOUR, 2),
  ...compared(FOUR, union, ALONE, 1.6),
];

const [MANY, FLAT] = [8, 0.9];
const flatEntries: readonly Entry[] = [1, MANY].map((branches) => ({
  ...onOneCpu,
  name: branches === 1 ? '1 branch' : `${branches} branches`,
  contender: union as 'union',
  branches,
}));
const flatBars: readonly Comparison[] = metadataPhases.map((phase) => ({
  phase,
  of: `${MANY} branches`,
  against: '1 branch',
  ratio: FLAT,
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
  data: {
    about: 'file data through the union beside the same file on its branch, on one CPU',
    run: (plan, shop) => measureData(plan, shop),
  },
  flat: {
    about: 'eight branches beside one, on one CPU',
    run: async (plan, shop) => {
      const names = await compete(flatEntries, onNames(plan), flatBars, shop);
      const data = await measureFlatData(MANY, FLAT, plan, shop);
      return { verdicts: [...names.verdicts, ...data.verdicts], samples: { names: names.samples, data: data.samples } };
    },
  },
  clients: {
    about: 'nothing pinned: one and four clients beside mergerfs, four on all CPUs beside one on one',
    run: (plan, shop) => compete(crowd, onNames(plan), crowdBars, shop),
  },
  tree: {
    about: 'a source tree unpacked, and `git status` in it, beside mergerfs',
    run: (plan, shop) => measureTree({ rounds: plan.rounds, files: plan.treeFiles }, shop),
  },
  memory: {
    about: 'memory of an idle server and of known files, time until a mount answers',
    run: (plan, shop) => measureMemory({ knownFiles: plan.knownFiles, rounds: plan.rounds }, shop),
  },
  frozen: {
    about: 'a union of which one branch is frozen, for who needs the others, beside itself before',
    run: (plan, shop) => measureFrozen({ files: Math.ceil(plan.files / 2), rounds: plan.rounds }, shop),
  },
  journal: {
    about: 'what journal and notes cost: the union beside itself without them, on one CPU',
    run: (plan, shop) => measureJournal(plan, shop),
  },
  pause: {
    about: 'how long a kept mount answers nobody when its server is killed',
    run: (plan, shop) => measurePause({ knownFiles: plan.knownFiles, kills: plan.rounds * 2 + 1 }, shop),
  },
};

function onNames(plan: Plan): Plan {
  return { ...plan, phases: plan.phases.filter((phase) => metadataPhases.includes(phase)) };
}

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
