/** How a thread waits for another one that will not take long. */
import * as libc from '../sys/libc.ts';

const SPINS_BEFORE_YIELD = 100;
/** Who waits this long waits for a file that moves to another branch, or for a slow one: the CPU is of more use elsewhere. */
export const SPINS_BEFORE_SLEEP = 1000;
export const SLEEP_US = 500;

/** Between two tries of something that was in vain so many times. */
export function pause(times: number): void {
  if (times > SPINS_BEFORE_SLEEP) libc.usleep(SLEEP_US);
  else if (times > SPINS_BEFORE_YIELD) libc.schedYield();
}
