/**
 * The suites that could go on for ever have two forms: one short enough for every run of .ci/run, and a long one,
 * `npm run test:torture`.
 */
export const isLong = process.env.TORTURE === 'long';

/** Numbers from 1 on, to serve as seeds; or the one that a variable of the environment names, to see a failure again. */
export function seedsOf(variable: string, count: number): readonly number[] {
  const only = process.env[variable];
  return only === undefined ? Array.from({ length: count }, (_, index) => index + 1) : [Number(only)];
}
