/**
 * `npm run bench`: the same work on plain ext4, mergerfs, a union over fuse-native, the null server and our union, in one
 * run, round by round in turn, as medians and ratios. README.md here says how to read it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fuse, loop } from '../support/skip.ts';
import { contenderNames } from './contenders.ts';
import { takePrecedence } from './machine.ts';
import { type Plan, sections } from './sections.ts';
import { formatVerdicts, phases } from './table.ts';
import type { Outcome, Workshop } from './workload.ts';

const sectionNames = Object.keys(sections);

const help = `usage: npm run bench -- [SECTION…] [FLAG…]

${sectionNames.map((name) => `  ${name.padEnd(17)} ${sections[name]!.about}`).join('\n')}

  With --check or --quick all of them, else the first.

  --check           print every bar; exit with 1 when the union is below one
  --quick           one round over little: a smoke test of ${sectionNames.length} sections, no measurement
  --json FILE       write every sample and every bar
  --rounds N        rounds; figures are medians (default 5)
  --only NAME,…     operations: of ${phases.join(', ')}
  --contenders NAME,…  of the first section: of ${contenderNames.join(', ')} (default: all, with --check all but fuse-native)
  --files N         files of the operations on names (default 10000)
  --mebibytes N     size of the large file (default 512)
  --branches N      branches of the first section's unions (default 4)
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      check: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      rounds: { type: 'string' },
      only: { type: 'string' },
      contenders: { type: 'string' },
      files: { type: 'string' },
      mebibytes: { type: 'string' },
      branches: { type: 'string', default: '4' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const { quick } = values;
  const everything = values.check || quick ? sectionNames : sectionNames.slice(0, 1);
  const chosen = positionals.length === 0 ? everything : known(positionals, sectionNames, 'section');
  const plan: Plan = {
    rounds: count(values.rounds ?? (quick ? '1' : '5'), 'rounds'),
    files: count(values.files ?? (quick ? '2000' : '10000'), 'files'),
    mebibytes: count(values.mebibytes ?? (quick ? '64' : '512'), 'mebibytes'),
    branches: count(values.branches, 'branches'),
    phases: known(values.only?.split(',') ?? phases, phases, 'operation'),
    contenders: known(
      values.contenders?.split(',') ?? contenderNames.filter((name) => !values.check || name !== 'fuse-native'),
      contenderNames,
      'contender',
    ),
    treeFiles: quick ? 1000 : 50_000,
    knownFiles: quick ? 200_000 : 1_000_000,
  };
  const reason = fuse() ?? loop();
  if (reason !== undefined) throw new Error(`the benchmark ${reason}`);
  const outcomes = await runSections(chosen, plan);
  const verdicts = Object.values(outcomes).flatMap((outcome) => outcome.verdicts);
  process.stdout.write(
    quick && !values.check
      ? '\none short round: it works; the figures say nothing\n'
      : `\n${formatVerdicts(verdicts)}\n`,
  );
  if (values.json !== undefined) {
    const machine = { kernel: release(), cpus: availableParallelism() };
    writeFileSync(values.json, `${JSON.stringify({ machine, plan, outcomes }, null, 2)}\n`);
  }
  return values.check && verdicts.some(({ met }) => !met) ? 1 : 0;
}

async function runSections(chosen: readonly string[], plan: Plan): Promise<Record<string, Outcome>> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => stop.abort(new Error(`ended by ${signal}`)));
  const folder = mkdtempSync(join(tmpdir(), 'union-bench-'));
  const shop: Workshop = { folder, signal: stop.signal, say: (line) => void process.stdout.write(`${line}\n`) };
  const standBack = takePrecedence();
  const outcomes: Record<string, Outcome> = {};
  try {
    for (const name of chosen) {
      shop.say(`\n${name}: ${sections[name]!.about}`);
      outcomes[name] = await sections[name]!.run(plan, shop);
    }
    return outcomes;
  } finally {
    standBack();
    rmSync(folder, { recursive: true, force: true });
  }
}

function count(text: string, flag: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${flag} ${text} is not a count`);
  return value;
}

/** The names as what they are; throws at the first that is none. */
function known<T extends string>(given: readonly string[], names: readonly T[], what: string): readonly T[] {
  return given.map((name) => {
    const found = names.find((one) => one === name);
    if (found === undefined) throw new Error(`unknown ${what} ${name}; known are ${names.join(', ')}`);
    return found;
  });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exit(1);
  },
);
