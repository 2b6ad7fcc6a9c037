/** BLOCK_ROUNDS=50: a test so many times, each with all that comes before and after it; without it, once. */
const ROUNDS = Number(process.env.BLOCK_ROUNDS ?? 1);

export function itEachRound(title: string, body: () => Promise<void>): void {
  for (let round = 1; round <= ROUNDS; round++) it(ROUNDS === 1 ? title : `${title}, ${round} of ${ROUNDS}`, body);
}
