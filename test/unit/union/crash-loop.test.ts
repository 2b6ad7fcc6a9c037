/** When a mount is let go: times in seconds. */
import { expect } from 'chai';
import { afterDeath, type Deaths, hopelessness } from '../../../src/union/crash-loop.ts';

/** Deaths at these times of servers that each began to serve `served` before. */
function deathsAt(times: readonly number[], served = 0): Deaths {
  return times.reduce<Deaths>(
    (deaths, at) => afterDeath(deaths, { servedSince: (at - served) * 1000, now: at * 1000 }),
    [],
  );
}

function verdict(deaths: Deaths, now: number): string | undefined {
  return hopelessness({ deaths, starts: 0, now: now * 1000 });
}

describe('a mount whose servers die', () => {
  it('is kept after the first deaths', () => {
    expect(verdict(deathsAt([0]), 0)).to.equal(undefined);
    expect(verdict(deathsAt([0, 1, 2, 3]), 3)).to.equal(undefined);
  });

  it('is let go at the fifth death in a row', () => {
    expect(verdict(deathsAt([0, 1, 2, 3, 4]), 4)).to.equal('its server died 5 times in 4 s');
    expect(verdict(deathsAt([0, 11, 22, 33, 44], 10), 44)).to.equal('its server died 5 times in 44 s');
  });

  it('is let go after a minute when the next server is started later and later', () => {
    const deaths = deathsAt([0, 1.5, 13, 35]);
    expect(verdict(deaths, 59)).to.equal(undefined);
    expect(verdict(deaths, 60)).to.equal('its server died 4 times');
  });

  it('is kept for as long as it takes when servers had served for a while', () => {
    expect(verdict(deathsAt([20, 40, 60, 80, 100, 120], 15), 120)).to.equal(undefined);
    expect(verdict(deathsAt([0]), 100_000)).to.equal(undefined);
    expect(verdict(deathsAt([0, 1]), 100_000)).to.equal(undefined);
  });

  it('is let go after a minute when servers end before they can serve', () => {
    const deaths = deathsAt([0]);
    expect(hopelessness({ deaths, starts: 3, now: 59_000 })).to.equal(undefined);
    expect(hopelessness({ deaths, starts: 1, now: 600_000 }), 'one that takes long to start').to.equal(undefined);
    const why = 'its server died 1 times, and was started 2 times since';
    expect(hopelessness({ deaths, starts: 2, now: 60_000 })).to.equal(why);
  });

  it('is let go when a server is there that has refused for a minute, with what it says', () => {
    const refusal = { message: 'branch b1 is gone', since: 5_000 };
    expect(hopelessness({ deaths: deathsAt([0]), starts: 0, refusal, now: 64_000 })).to.equal(undefined);
    expect(hopelessness({ deaths: deathsAt([0]), starts: 0, refusal, now: 65_000 })).to.equal('branch b1 is gone');
  });
});
