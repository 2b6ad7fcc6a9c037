/** Which backing ids a successor may have to close. */
import { expect } from 'chai';
import { doubtfulBackings } from '../../../fuse/transport/lost-backings.ts';

describe('backing ids that a dead server may have lost', () => {
  const idle = (last: number) => ({ last, isBusy: false });
  const busy = (last: number) => ({ last, isBusy: true });
  const doubtful = (next: number, ...readers: { last: number; isBusy: boolean }[]) =>
    [...doubtfulBackings(next, readers)].sort((one, other) => one - other);

  it('are those that were noted last, and all later ones', () => {
    expect(doubtful(10, idle(3), idle(7))).to.deep.equal([3, 7, 8, 9]);
    expect(doubtful(8, idle(3), idle(7))).to.deep.equal([3, 7]);
  });

  it('are lower than what others have noted, where a reader was at a request', () => {
    expect(doubtful(8, busy(3), idle(7))).to.deep.equal([3, 4, 5, 6, 7]);
    expect(doubtful(8, busy(7), idle(3))).to.deep.equal([3, 7]);
  });

  it('are all, as far as they can be told, where nothing was noted', () => {
    expect(doubtful(4, busy(0), idle(0))).to.deep.equal([1, 2, 3]);
    expect(doubtful(1, idle(0))).to.deep.equal([]);
    expect(doubtful(100_000, busy(0), idle(99_999)).length).to.equal(4096);
  });
});
