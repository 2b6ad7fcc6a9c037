import { expect } from 'chai';
import { AwakeClock } from '../../../fuse/transport/awake-clock.ts';

describe('the clock that branches are watched by', () => {
  it('goes as others do while somebody looks, and stands while nobody does', () => {
    const clock = new AwakeClock(500);
    for (const now of [7_000, 7_100, 7_250]) clock.tick(now);
    expect(clock.now).to.equal(250);
    clock.tick(100_000);
    expect(clock.now).to.equal(750);
    clock.tick(100_100);
    expect(clock.now).to.equal(850);
  });
});
