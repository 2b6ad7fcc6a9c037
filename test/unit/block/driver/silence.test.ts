import { expect } from 'chai';
import { SilenceWatch } from '../../../../src/block/driver/silence.ts';

describe('SilenceWatch', () => {
  it('adds up for how long a sign has stayed the same, and begins anew when it changes', () => {
    const watch = new SilenceWatch(20_000);
    const look = (at: number, a: string, b: string) => {
      const silence = watch.look(
        [
          { name: 'a', lastSeen: a },
          { name: 'b', lastSeen: b },
        ],
        at,
      );
      return [silence.get('a'), silence.get('b')];
    };
    expect(look(1_000, '1', '1')).to.deep.equal([0, 0]);
    expect(look(11_000, '1', '2')).to.deep.equal([10_000, 0]);
    expect(look(21_000, '1', '2')).to.deep.equal([20_000, 10_000]);
    expect(look(31_000, '3', '2')).to.deep.equal([0, 20_000]);
  });

  it('does not count time in which nobody looked', () => {
    const watch = new SilenceWatch(20_000);
    const sign = { name: 'a', lastSeen: '1' };
    watch.look([sign], 0);
    expect(watch.look([sign], 3_600_000).get('a')).to.equal(20_000);
    expect(watch.look([sign], 3_500_000).get('a')).to.equal(20_000);
  });
});
