/** The judge itself: what it must accept, and what it must not. */
import { expect } from 'chai';
import { Oracle, Violation } from './oracle.ts';

function write(oracle: Oracle, value: number): void {
  oracle.endWrite(1, oracle.beginWrite(1, value));
}

function read(oracle: Oracle, value: number): void {
  oracle.endRead(1, oracle.beginRead(1), value);
}

describe('the oracle', () => {
  it('accepts what was written last, and zeros before that', () => {
    const oracle = new Oracle();
    read(oracle, 0);
    write(oracle, 7);
    read(oracle, 7);
  });

  it('rejects an older value, and one that was never written there', () => {
    const oracle = new Oracle();
    write(oracle, 7);
    write(oracle, 8);
    expect(() => read(oracle, 7)).to.throw(Violation, 'cannot be explained');
    expect(() => read(new Oracle(), 9)).to.throw(Violation, 'never written there');
  });

  it('accepts either order of two writes at once, but not both', () => {
    const oracle = new Oracle();
    const [a, b] = [oracle.beginWrite(1, 7), oracle.beginWrite(1, 8)];
    oracle.endWrite(1, a);
    oracle.endWrite(1, b);
    read(oracle, 7);
    expect(() => read(oracle, 8)).to.throw(Violation);
  });

  it('rejects a read that goes back behind another read, while a write is under way', () => {
    const oracle = new Oracle();
    const pending = oracle.beginWrite(1, 7);
    read(oracle, 7);
    read(oracle, 0);
    expect(() => oracle.endWrite(1, pending)).to.throw(Violation);
  });

  it('accepts the loss of what was not flushed, in any choice, and then holds to it', () => {
    for (const survivor of [7, 8, 9]) {
      const oracle = new Oracle();
      write(oracle, 7);
      oracle.flushed(oracle.now);
      write(oracle, 8);
      oracle.beginWrite(1, 9);
      oracle.lost();
      read(oracle, survivor);
      expect(() => read(oracle, survivor === 7 ? 8 : 7)).to.throw(Violation);
    }
  });

  it('rejects the loss of what was flushed, or written with FUA', () => {
    for (const durable of ['flush', 'fua']) {
      const oracle = new Oracle();
      write(oracle, 7);
      const last = oracle.beginWrite(1, 8);
      if (durable === 'fua') oracle.forced(1, last);
      oracle.endWrite(1, last);
      if (durable === 'flush') oracle.flushed(oracle.now);
      oracle.lost();
      expect(() => read(oracle, 7)).to.throw(Violation);
    }
  });

  it('does not count a flush that began before the write was answered', () => {
    const oracle = new Oracle();
    const since = oracle.now;
    write(oracle, 7);
    oracle.flushed(since);
    oracle.lost();
    read(oracle, 0);
  });

  it('takes what a new epoch has shown for durable', () => {
    const oracle = new Oracle();
    write(oracle, 7);
    oracle.lost();
    oracle.recovered();
    read(oracle, 7);
    oracle.lost();
    expect(() => read(oracle, 0)).to.throw(Violation);
  });
});
