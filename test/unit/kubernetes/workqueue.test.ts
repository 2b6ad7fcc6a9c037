/** The keyed work queue: its pure core, and the loop around it under a fake clock. */
import { expect } from 'chai';
import fc from 'fast-check';
import { UnionError } from '../../../src/base/errors.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { createWorkQueue, type Outcome, QueueState } from '../../../src/kubernetes/workqueue.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';

const BACKOFF = { baseMs: 100, maxMs: 1000 };

describe('QueueState', () => {
  it('gives out a key once however often it was added', () => {
    const state = new QueueState(BACKOFF, () => 1);
    state.add('a', 0);
    state.add('a', 0);
    expect([state.take(0), state.take(0)]).to.deep.equal(['a', undefined]);
  });

  it('gives a key that was added while it was worked on once more, and not before that work ended', () => {
    const state = new QueueState(BACKOFF, () => 1);
    state.add('a', 0);
    state.take(0);
    state.add('a', 0);
    expect(state.take(0)).to.equal(undefined);
    state.finish('a', { kind: 'done' }, 5);
    expect(state.take(5)).to.equal('a');
  });

  it('doubles the delay of a key that fails up to the maximum, and forgets its failures when it succeeds', () => {
    const state = new QueueState(BACKOFF, () => 1);
    const delays: number[] = [];
    state.add('a', 0);
    let now = 0;
    for (let i = 0; i < 6; i++) {
      state.take(now);
      state.finish('a', { kind: 'failed' }, now);
      delays.push(state.nextDueAt()! - now);
      now = state.nextDueAt()!;
    }
    expect(delays).to.deep.equal([100, 200, 400, 800, 1000, 1000]);
    state.take(now);
    state.finish('a', { kind: 'done' }, now);
    expect([state.failuresOf('a'), state.nextDueAt()]).to.deep.equal([0, undefined]);
  });

  it('spreads delays over the upper half of the interval', () => {
    const state = new QueueState(BACKOFF, () => 0);
    state.add('a', 0);
    state.take(0);
    state.finish('a', { kind: 'failed' }, 0);
    expect(state.nextDueAt()).to.equal(50);
  });

  it('never has a key twice, never loses one that was added, and ends empty (any sequence)', () => {
    const step = fc.record({
      key: fc.constantFrom('a', 'b', 'c'),
      act: fc.constantFrom('add', 'later', 'take', 'done', 'failed', 'again'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const state = new QueueState(BACKOFF, () => 0.5);
        const running = new Set<string>();
        const owed = new Set<string>();
        let now = 0;
        for (const { key, act } of steps) {
          now += 10;
          if (act === 'add' || act === 'later') {
            state.add(key, act === 'add' ? now : now + 500);
            owed.add(key);
          } else if (act === 'take') {
            const taken = state.take(now);
            if (taken === undefined) continue;
            expect(running.has(taken)).to.equal(false);
            running.add(taken);
            owed.delete(taken);
          } else if (running.delete(key)) {
            const outcome: Outcome =
              act === 'again' ? { kind: 'again', afterMs: 50 } : { kind: act as 'done' | 'failed' };
            state.finish(key, outcome, now);
            if (act !== 'done') owed.add(key);
          }
        }
        for (const key of running) state.finish(key, { kind: 'done' }, now);
        const rest = new Set<string>();
        for (let key = state.take(now + 1e6); key !== undefined; key = state.take(now + 1e6)) rest.add(key);
        expect(rest).to.deep.equal(owed);
      }),
    );
  });
});

describe('createWorkQueue', () => {
  function start(work: (key: string, signal: AbortSignal) => Promise<undefined | { requeueAfterMs: number }>) {
    const clock = new FakeClock();
    const stop = new AbortController();
    const options = { name: 'test', work, concurrency: 2, log: silentLogger, backoff: BACKOFF, clock, random: () => 1 };
    const queue = createWorkQueue(options);
    const running = queue.run(stop.signal);
    return { clock, stop, queue, running };
  }

  it('works on no more keys at a time than it may', async () => {
    const gates: (() => void)[] = [];
    const { queue, stop, running } = start(() => new Promise((resolve) => gates.push(() => resolve(undefined))));
    for (const key of ['a', 'b', 'c']) queue.add(key);
    await settle();
    expect(gates).to.have.length(2);
    gates[0]!();
    await settle();
    expect(gates).to.have.length(3);
    for (const gate of gates) gate();
    stop.abort();
    await running;
  });

  it('tries again after a failure, with back-off, and looks again when asked to', async () => {
    const times: number[] = [];
    const { clock, queue, stop, running } = start(async () => {
      times.push(clock.now() - 1_700_000_000_000);
      if (times.length <= 2) throw new UnionError('UNAVAILABLE', 'not yet');
      return times.length === 3 ? { requeueAfterMs: 5000 } : undefined;
    });
    queue.add('a');
    await clock.advance(20_000);
    expect(times).to.deep.equal([0, 100, 300, 5300]);
    stop.abort();
    await running;
  });

  it('waits for the work under way when it is stopped, and starts no more', async () => {
    const gate = Promise.withResolvers<undefined>();
    let started = 0;
    const { queue, stop, running } = start(() => {
      started++;
      return gate.promise;
    });
    queue.add('a');
    await settle();
    stop.abort();
    queue.add('b');
    let ended = false;
    void running.then(() => {
      ended = true;
    });
    await settle();
    expect(ended).to.equal(false);
    gate.resolve(undefined);
    await running;
    expect(started).to.equal(1);
  });
});
