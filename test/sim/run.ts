/**
 * `npm run test:sim -- --seeds N [--seed S] [--mutant X] [--keep 0,3 --operations N]`: runs N worlds from seed S on.
 * Stops at the first violation, shrinks it and prints the command that replays it; the last line is a summary. A long run says now
 * and then how far it is, so that one that is interrupted has still shown something.
 */
import { parseArgs } from 'node:util';
import { mutants } from './mutants.ts';
import { makePlan, type Plan } from './plan.ts';
import { replayCommand, shrink } from './shrink.ts';
import { tryPlan } from './try-plan.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1' },
    seed: { type: 'string' },
    mutant: { type: 'string' },
    keep: { type: 'string' },
    operations: { type: 'string' },
    'keep-going': { type: 'boolean', default: false },
  },
});

/** Seeds between two reports of a long run. */
const REPORT_SEEDS = 5000;

const first = Number(values.seed ?? Math.floor(Math.random() * 1e9));
const seeds = Number(values.seeds);
const mutant = values.mutant;
if (mutant !== undefined && mutants[mutant] === undefined) {
  console.error(`no mutant ${mutant}; there are ${Object.keys(mutants).join(', ')}`);
  process.exit(2);
}

const counts = new Map<string, number>();
let failures = 0;
let done = 0;
const started = performance.now();
for (let seed = first; seed < first + seeds; seed++) {
  const plan = selected(makePlan(seed));
  const outcome = tryPlan(plan, mutant);
  done++;
  for (const [what, count] of outcome.counts) counts.set(what, (counts.get(what) ?? 0) + count);
  if (done % REPORT_SEEDS === 0 && done < seeds) console.log(progress());
  if (outcome.violation === undefined) continue;
  failures++;
  console.log(`seed ${seed}: ${outcome.violation}`);
  if (values['keep-going']) continue;
  const small = shrink(plan, mutant);
  console.log(
    `shrunk to ${small.operations} operations and ${small.faults.length} faults: ${tryPlan(small, mutant).violation}`,
  );
  for (const fault of small.faults) console.log(`  ${JSON.stringify(fault)}`);
  console.log(`replay: ${replayCommand(small, mutant)}`);
  break;
}
const faults = [...counts].sort().map(([what, count]) => `${what} ${count}`);
console.log(`${progress()}; ${faults.join(', ')}`);
process.exit(failures > 0 ? 1 : 0);

function progress(): string {
  const minutes = (performance.now() - started) / 60_000;
  return `${done} seeds from ${first}, ${failures} violations, ${Math.round(done / minutes)} seeds a minute`;
}

/** The plan as a shrunk history names it. */
function selected(plan: Plan): Plan {
  const keep = values.keep?.split(',').filter(Boolean).map(Number);
  const faults = keep ? plan.faults.filter((_, index) => keep.includes(index)) : plan.faults;
  return { ...plan, faults, operations: Number(values.operations ?? plan.operations) };
}
