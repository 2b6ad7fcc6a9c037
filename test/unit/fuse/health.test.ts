/** When a branch counts as slow or hanging, and whom its gate lets through. */
import { expect } from 'chai';
import { GATE } from '../../../fuse/branch/gate.ts';
import { judge, PATIENCE, type Sight } from '../../../fuse/branch/health.ts';

const { slowMs, hangingMs, maxWaiting } = PATIENCE;
const fine: Sight = { finding: { kind: 'ok', message: '' }, lookMs: 0, changeMs: 0, waiting: 0 };
const of = (sight: Partial<Sight>) => judge({ ...fine, ...sight }, PATIENCE);

describe('judge', () => {
  it('does not mind requests that take long while probes are answered: an fsync may', () => {
    expect(of({ waiting: 20 })).to.deep.equal({ health: 'ok', gate: 0, message: '' });
    expect(of({ waiting: 20, lookMs: slowMs - 1, changeMs: slowMs - 1 }).health).to.equal('ok');
  });

  it('has new files made elsewhere when a probe goes unanswered, and lets everything else wait', () => {
    expect(of({ lookMs: slowMs })).to.include({ health: 'slow', gate: GATE.avoided });
    expect(of({ changeMs: hangingMs - 1, waiting: maxWaiting - 1 })).to.include({ health: 'slow', gate: GATE.avoided });
  });

  it('closes a branch that answers nothing for long, or that too many readers wait for', () => {
    const closed = { health: 'hanging', gate: GATE.avoided | GATE.closed };
    expect(of({ lookMs: hangingMs })).to.include(closed);
    expect(of({ lookMs: slowMs, waiting: maxWaiting })).to.include(closed);
  });

  it('lets readers into a frozen branch', () => {
    const frozen = { health: 'hanging', gate: GATE.avoided | GATE.unchangeable };
    expect(of({ changeMs: hangingMs })).to.include(frozen);
    expect(of({ changeMs: slowMs, waiting: maxWaiting, lookMs: 1 })).to.include(frozen);
  });

  for (const kind of ['failing', 'gone', 'foreign'] as const) {
    it(`closes one that is ${kind}, and says why`, () => {
      const message = 'because';
      expect(of({ finding: { kind, message } })).to.deep.equal({
        health: kind,
        gate: GATE.avoided | GATE.closed,
        message,
      });
    });
  }

  it('makes new files elsewhere when a branch takes no changes, which it tells by itself', () => {
    expect(of({ finding: { kind: 'read-only', message: 'm' } })).to.deep.equal({
      health: 'read-only',
      gate: GATE.avoided | GATE.readOnly,
      message: 'm',
    });
  });
});
