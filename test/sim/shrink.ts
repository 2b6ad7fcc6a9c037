/** Makes a failing plan smaller as long as it still fails: fewer faults, then fewer operations. */
import { makePlan, type Plan } from './plan.ts';
import { tryPlan } from './try-plan.ts';

export function shrink(plan: Plan, mutant?: string): Plan {
  const fails = (candidate: Plan) => tryPlan(candidate, mutant).violation !== undefined;
  let small = plan;
  for (let changed = true; changed; ) {
    changed = false;
    for (const fault of small.faults) {
      const candidate = { ...small, faults: small.faults.filter((other) => other !== fault) };
      if (!fails(candidate)) continue;
      small = candidate;
      changed = true;
    }
    for (const operations of [Math.floor(small.operations / 2), small.operations - 1]) {
      const candidate = { ...small, operations };
      if (operations === small.operations || operations < 0 || !fails(candidate)) continue;
      small = candidate;
      changed = true;
      break;
    }
  }
  return small;
}

export function replayCommand(plan: Plan, mutant?: string): string {
  const all = makePlan(plan.seed).faults.map((fault) => JSON.stringify(fault));
  const keep = plan.faults.map((fault) => all.indexOf(JSON.stringify(fault)));
  const flags = [`--seed ${plan.seed}`, `--keep ${keep.join(',') || ','}`, `--operations ${plan.operations}`];
  if (mutant !== undefined) flags.push(`--mutant ${mutant}`);
  return `npm run test:sim -- ${flags.join(' ')}`;
}
