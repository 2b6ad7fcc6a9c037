/** From samples to medians, comparisons with bars, and the table that people read. Pure. */

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

interface Row {
  readonly title: string;
  /** What one of the benchmark's units is, for the table. */
  readonly unit: 'k/s' | 'MB/s';
}

/** In the order in which they are done. */
export const rows: Readonly<Record<Phase, Row>> = {
  create: { title: 'create 4 KiB', unit: 'k/s' },
  stat_cold: { title: 'stat, cold', unit: 'k/s' },
  stat_warm: { title: 'stat, warm', unit: 'k/s' },
  missing_cold: { title: 'missing name, first time', unit: 'k/s' },
  missing_warm: { title: 'missing name, again', unit: 'k/s' },
  open_read: { title: 'open, read, close', unit: 'k/s' },
  ls_cold: { title: 'ls -l, cold, entries', unit: 'k/s' },
  readdir: { title: 'readdir, entries', unit: 'k/s' },
  rename: { title: 'rename', unit: 'k/s' },
  unlink: { title: 'unlink', unit: 'k/s' },
  sequential_write: { title: 'sequential write', unit: 'MB/s' },
  sequential_read: { title: 'sequential read', unit: 'MB/s' },
  random_write: { title: 'random write 4 KiB', unit: 'k/s' },
  random_read: { title: 'random read 4 KiB', unit: 'k/s' },
};

export const phases = Object.keys(rows) as readonly Phase[];
/** What works on names and attributes. */
export const metadataPhases = phases.slice(0, phases.indexOf('sequential_write'));
/** What moves data of one large file. */
export const dataPhases = phases.slice(metadataPhases.length);

/** One run's figures by phase; an entry may not have them all. */
export type Figures = Readonly<Partial<Record<Phase, number>>>;

/** Medians by the name of the entry. */
export type Medians = Readonly<Record<string, Figures>>;

export function medians(samples: readonly Figures[]): Figures {
  const figures: Partial<Record<Phase, number>> = {};
  for (const phase of phases) {
    const values = samples.flatMap((sample) => sample[phase] ?? []);
    if (values.length > 0) figures[phase] = median(values);
  }
  return figures;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

/** That `of` shall do `ratio` times of `against` in a phase. */
export interface Comparison {
  readonly phase: Phase;
  readonly of: string;
  readonly against: string;
  readonly ratio: number;
  /** The pair whose ratio is about what is to be had, where it was measured. */
  readonly limit?: { readonly of: string; readonly against: string };
}

/** A bar, what was reached, and, where it is known, about what was to be had in this run. */
export interface Verdict {
  readonly title: string;
  readonly reached: number;
  readonly bar: number;
  /** `atMost`: memory and time; else a ratio that shall be reached. */
  readonly kind: 'atLeast' | 'atMost';
  readonly unit: string;
  readonly met: boolean;
  readonly limit?: number;
}

export function atLeast(title: string, reached: number, bar: number, unit: string, limit?: number): Verdict {
  const met = reached >= bar;
  return { title, reached, bar, kind: 'atLeast', unit, met, ...(limit === undefined ? {} : { limit }) };
}

export function atMost(title: string, reached: number, bar: number, unit: string): Verdict {
  return { title, reached, bar, kind: 'atMost', unit, met: reached <= bar };
}

/** Operations that the lower filesystem has to do too: a union takes about as long as the requests and that together. */
export const lowerPhases: readonly Phase[] = ['create', 'open_read', 'rename', 'unlink'];
/** Those that a union can do from memory, or the kernel from its own: they take as long as the requests. */
const rememberedPhases: readonly Phase[] = ['stat_cold', 'missing_cold', 'readdir'];
/** What is to be had: the column beside those of the null server and the plain filesystem, `, 4 clients` and such included. */
export const BOUND = 'null + native';

/** Adds, where both were measured, what the null server's requests and the native operation would reach one after the other. */
export function withBound(measured: Medians): Medians {
  const bounds: Record<string, Figures> = {};
  for (const name of Object.keys(measured).filter((one) => one.startsWith('null'))) {
    const setting = name.slice('null'.length);
    const native = measured[`native${setting}`];
    if (native !== undefined) bounds[BOUND + setting] = boundOf(measured[name]!, native);
  }
  return { ...measured, ...bounds };
}

function boundOf(requests: Figures, native: Figures): Figures {
  const bound: Partial<Record<Phase, number>> = {};
  for (const phase of [...lowerPhases, ...rememberedPhases]) {
    const [asked, done] = [requests[phase], native[phase]];
    if (asked === undefined || done === undefined) continue;
    bound[phase] = lowerPhases.includes(phase) ? 1 / (1 / asked + 1 / done) : asked;
  }
  return bound;
}

/** Every comparison that these medians allow. */
export function judge(measured: Medians, comparisons: readonly Comparison[]): readonly Verdict[] {
  return comparisons.flatMap((comparison) => verdictOn(measured, comparison) ?? []);
}

function verdictOn(measured: Medians, { phase, of, against, ratio, limit }: Comparison): Verdict | undefined {
  const reached = ratioOf(measured, phase, of, against);
  if (reached === undefined) return undefined;
  const most = limit === undefined ? undefined : ratioOf(measured, phase, limit.of, limit.against);
  return atLeast(`${rows[phase].title}: ${of}`, reached, ratio, `× ${against}`, most);
}

function ratioOf(measured: Medians, phase: Phase, of: string, against: string): number | undefined {
  const one = measured[of]?.[phase];
  const other = measured[against]?.[phase];
  return one === undefined || other === undefined ? undefined : one / other;
}

/** Rows of operations, columns of entries, then the comparisons. */
export function formatTable(measured: Medians, comparisons: readonly Comparison[]): string {
  const names = Object.keys(measured);
  const body = phases
    .filter((phase) => names.some((name) => measured[name]?.[phase] !== undefined))
    .map((phase) => [
      `${rows[phase].title} (${rows[phase].unit})`,
      ...names.map((name) => formatFigure(measured[name]?.[phase], rows[phase].unit)),
      judge(
        measured,
        comparisons.filter((comparison) => comparison.phase === phase),
      )
        .map(({ reached, unit, bar, met }) => `${reached.toFixed(2)} ${unit} (${met ? 'bar' : 'below bar'} ${bar})`)
        .join(', '),
    ]);
  return alignColumns([['', ...names, ''], ...body]);
}

/** One line for each bar: what it is about, what was reached, the bar, and whether that is enough. */
export function formatVerdicts(verdicts: readonly Verdict[]): string {
  return alignColumns(
    verdicts.map(({ title, reached, unit, bar, kind, met, limit }) => [
      title,
      `${reached.toFixed(reached >= 100 ? 0 : 2)} ${unit}`,
      `${kind === 'atLeast' ? '≥' : '≤'} ${bar}`,
      met ? 'ok' : limit === undefined || limit >= bar ? 'below' : `below; about ${limit.toFixed(2)} is to be had`,
    ]),
  );
}

/** The first column and the last are text, the others figures. */
function alignColumns(lines: readonly (readonly string[])[]): string {
  const last = (lines[0]?.length ?? 1) - 1;
  const widths = Array.from({ length: last + 1 }, (_, column) =>
    Math.max(0, ...lines.map((line) => line[column]!.length)),
  );
  const align = (cell: string, column: number) =>
    column === 0 || column === last ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
  return lines.map((line) => line.map(align).join('  ').trimEnd()).join('\n');
}

function formatFigure(perSecond: number | undefined, unit: Row['unit']): string {
  if (perSecond === undefined) return '–';
  // The benchmark counts MiB; people compare MB.
  const value = unit === 'MB/s' ? perSecond * 1.048576 : perSecond / 1000;
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
