import { expect } from 'chai';
import { parseDuration, UsageError } from '../../../src/main/flags.ts';

describe('parseDuration', () => {
  it('reads seconds, minutes and hours, and nothing else', () => {
    expect(['90s', '10m', '2h'].map((text) => parseDuration(text, 'x'))).to.deep.equal([90_000, 600_000, 7_200_000]);
    for (const text of ['', '10', '1d', '-5m', '1.5h', '10 m', '1h30m']) {
      expect(() => parseDuration(text, 'x')).to.throw(UsageError, `--x ${text} is not a duration`);
    }
  });
});
