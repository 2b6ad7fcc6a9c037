/** Runs one world to its end and says what became of it. */
import { mutants } from './mutants.ts';
import { Violation } from './oracle.ts';
import type { Plan } from './plan.ts';
import { World } from './world.ts';

export interface Outcome {
  /** What was broken; undefined: nothing. */
  readonly violation: string | undefined;
  /** Faults that happened, and states that were seen, by name. */
  readonly counts: ReadonlyMap<string, number>;
}

export function tryPlan(plan: Plan, mutant?: string): Outcome {
  const world = new World(plan, mutant === undefined ? undefined : mutants[mutant]!());
  try {
    world.run();
    return { violation: undefined, counts: world.counts };
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { violation: error.message, counts: world.counts };
  }
}
