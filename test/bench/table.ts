/** From samples to medians, ratios, bars and the table that people read. Pure. */

export type Phase =
  | 'create'
  | 'stat_cold'
  | 'stat_warm'
  | 'missing_cold'
  | 'missing_warm'
  | 'open_read'
  | 'ls_cold'
  | 'readdir'
  | 'rename'
  | 'unlink'
  | 'sequential_write'
  | 'sequential_read'
  | 'random_write'
  | 'random_read';

/** What the union has to reach, as multiples of others in the same run (design of the filesystem, "Speed"). */
export interface Bar {
  readonly against: 'mergerfs' | 'native' | 'null';
  readonly ratio: number;
}

export interface PhaseRow {
  readonly phase: Phase;
  readonly title: string;
  /** What one of the benchmark's units is, for the table. */
  readonly unit: 'k/s' | 'MB/s';
  readonly bars: readonly Bar[];
}

const timesMergerfs = (ratio: number): Bar => ({ against: 'mergerfs', ratio });
const timesNative = (ratio: number): Bar => ({ against: 'native', ratio });

export const rows: readonly PhaseRow[] = [
  { phase: 'create', title: 'create 4 KiB', unit: 'k/s', bars: [timesMergerfs(2)] },
  { phase: 'stat_cold', title: 'stat, cold', unit: 'k/s', bars: [timesMergerfs(2)] },
  { phase: 'stat_warm', title: 'stat, warm', unit: 'k/s', bars: [] },
  {
    phase: 'missing_cold',
    title: 'missing name, first time',
    unit: 'k/s',
    bars: [timesMergerfs(2), { against: 'null', ratio: 0.85 }],
  },
  { phase: 'missing_warm', title: 'missing name, again', unit: 'k/s', bars: [timesMergerfs(1)] },
  { phase: 'open_read', title: 'open, read, close', unit: 'k/s', bars: [timesMergerfs(1.5)] },
  { phase: 'ls_cold', title: 'ls -l, cold, entries', unit: 'k/s', bars: [timesMergerfs(2)] },
  { phase: 'readdir', title: 'readdir, entries', unit: 'k/s', bars: [timesMergerfs(1)] },
  { phase: 'rename', title: 'rename', unit: 'k/s', bars: [timesMergerfs(2)] },
  { phase: 'unlink', title: 'unlink', unit: 'k/s', bars: [timesMergerfs(1.5)] },
  { phase: 'sequential_write', title: 'sequential write', unit: 'MB/s', bars: [timesNative(0.95)] },
  { phase: 'sequential_read', title: 'sequential read', unit: 'MB/s', bars: [timesNative(0.95)] },
  { phase: 'random_write', title: 'random write 4 KiB', unit: 'k/s', bars: [timesNative(0.95)] },
  { phase: 'random_read', title: 'random read 4 KiB', unit: 'k/s', bars: [timesNative(0.95)] },
];

/** One run's figures by phase; a contender may not have them all. */
export type Figures = Readonly<Partial<Record<Phase, number>>>;

/** Medians by contender. */
export type Medians = Readonly<Record<string, Figures>>;

export function medians(samples: readonly Figures[]): Figures {
  const figures: Partial<Record<Phase, number>> = {};
  for (const { phase } of rows) {
    const values = samples.flatMap((sample) => sample[phase] ?? []).sort((a, b) => a - b);
    if (values.length > 0) figures[phase] = (values[(values.length - 1) >> 1]! + values[values.length >> 1]!) / 2;
  }
  return figures;
}

export interface BarResult extends Bar {
  readonly phase: Phase;
  readonly title: string;
  readonly reached: number;
  readonly met: boolean;
}

/** Every bar that can be judged from these medians. */
export function judge(measured: Medians): readonly BarResult[] {
  return rows.flatMap(({ phase, title, bars }) =>
    bars.flatMap((bar) => {
      const own = measured.union?.[phase];
      const other = measured[bar.against]?.[phase];
      if (own === undefined || other === undefined) return [];
      const reached = own / other;
      return [{ ...bar, phase, title, reached, met: reached >= bar.ratio }];
    }),
  );
}

/** Rows of operations, columns of contenders, then the union's ratios with their bars. */
export function formatTable(measured: Medians): string {
  const names = Object.keys(measured);
  const judged = judge(measured);
  const head = ['', ...names, 'union compared'];
  const body = rows
    .filter(({ phase }) => names.some((name) => measured[name]?.[phase] !== undefined))
    .map(({ phase, title, unit }) => [
      `${title} (${unit})`,
      ...names.map((name) => formatFigure(measured[name]?.[phase], unit)),
      judged
        .filter((result) => result.phase === phase)
        .map(
          ({ reached, ratio, against, met }) =>
            `${reached.toFixed(2)} × ${against} (${met ? 'bar' : 'below bar'} ${ratio})`,
        )
        .join(', '),
    ]);
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((line) => line[column]!.length)));
  return [head, ...body]
    .map((line) =>
      line
        .map((cell, column) =>
          column === 0 || column === head.length - 1 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function formatFigure(perSecond: number | undefined, unit: PhaseRow['unit']): string {
  if (perSecond === undefined) return '–';
  // The benchmark counts MiB; people compare MB.
  const value = unit === 'MB/s' ? perSecond * 1.048576 : perSecond / 1000;
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
