/**
 * What it costs that another server can go on where one was killed: the union beside itself without journal and notes
 * (without-journal.ts). Each is mounted twice, as two mounts of the same program differ by some percent too; of each operation
 * the median of what it takes in the same round counts.
 */
import { UNJOURNALED } from './contenders.ts';
import { atLeast, type Figures, median, type Phase, rows, type Verdict } from './table.ts';
import { type Entry, measure, type Outcome, type Scale, type Workshop } from './workload.ts';

const BAR = 0.95;

type Pair = readonly [kept: Entry, without: Entry];

const pairs: readonly Pair[] = ['first', 'second'].map((which) => {
  const rest = { branches: 4, cpus: 'one CPU', clients: 1 } as const;
  return [
    { ...rest, name: `union, ${which}`, contender: 'union' },
    { ...rest, name: `${UNJOURNALED}, ${which}`, contender: UNJOURNALED },
  ];
});

export async function measureJournal(scale: Scale, shop: Workshop): Promise<Outcome> {
  // Once the one goes first and once the other.
  const [[a, b], [c, d]] = pairs as readonly [Pair, Pair];
  const samples = await measure([a, b, d, c], scale, shop);
  const verdicts = scale.phases.map((phase) => verdictOn(phase, samples));
  return { verdicts, samples };
}

function verdictOn(phase: Phase, samples: Readonly<Record<string, readonly Figures[]>>): Verdict {
  const ratios = pairs.flatMap(([kept, without]) =>
    samples[kept.name]!.map((figures, round) => figures[phase]! / samples[without.name]![round]![phase]!),
  );
  return atLeast(`${rows[phase].title}: union`, median(ratios), BAR, `× ${UNJOURNALED}`);
}
