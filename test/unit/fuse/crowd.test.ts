import { closeSync } from 'node:fs';
import { expect } from 'chai';
import { PHASE } from '../../../fuse/inode/journal.ts';
import { WORD } from '../../../fuse/inode/layout.ts';
import { PROGRESS, progressOf } from '../../../fuse/inode/progress.ts';
import { State } from '../../../fuse/inode/state.ts';
import { IN, OP } from '../../../fuse/protocol/abi.ts';
import { Crowd } from '../../../fuse/transport/crowd.ts';

const OTHER = 1;

describe('a crowd', () => {
  let state: State;
  let crowd: Crowd;
  let ms = 5000;

  beforeEach(() => {
    state = State.create(0);
    state.u32[WORD.readersWanted] = 2;
    crowd = new Crowd(state, 0, () => ms);
  });

  afterEach(() => closeSync(state.fd));

  /** The other reader is at a request, another one than before unless told otherwise. */
  function otherIs(phase: number, { opcode = OP.LOOKUP as number, isNew = true } = {}): void {
    const { request, journal } = state.threadArea(OTHER);
    state.u32[journal >>> 2] = phase;
    state.u32[(request + IN.opcode) >>> 2] = opcode;
    if (isNew) state.u32[progressOf(OTHER) + PROGRESS.begun]!++;
  }

  /** So many requests of ours; whether there was a crowd after each. */
  const sees = (count: number, opcode: number = OP.LOOKUP) => Array.from({ length: count }, () => crowd.sees(opcode));

  it('is seen when other requests are met twice in a while', () => {
    otherIs(PHASE.working);
    expect(sees(8)).not.to.include(true);
    otherIs(PHASE.committed);
    expect(sees(8).at(-1)).to.equal(true);
  });

  it('is not seen in one meeting, however long it takes', () => {
    otherIs(PHASE.working);
    expect(sees(1000)).not.to.include(true);
    otherIs(PHASE.working, { isNew: false });
    expect(sees(1000)).not.to.include(true);
  });

  it('is not seen in what is over, what nobody waits for, and who is alone', () => {
    for (let i = 0; i < 100; i++) {
      otherIs([PHASE.idle, PHASE.replying][i % 2]!);
      expect(sees(4)).not.to.include(true);
      otherIs(PHASE.working, { opcode: [OP.RELEASE, OP.FORGET, OP.BATCH_FORGET][i % 3]! });
      expect(sees(4)).not.to.include(true);
      otherIs(PHASE.working);
      expect(sees(4, OP.RELEASE)).not.to.include(true);
      state.u32[WORD.readersWanted] = 1;
      expect(sees(4)).not.to.include(true);
      state.u32[WORD.readersWanted] = 2;
      otherIs(PHASE.idle);
    }
  });

  it('stays for a second after the last meeting', () => {
    for (let i = 0; i < 2; i++) {
      otherIs(PHASE.working);
      sees(4);
    }
    ms += 990;
    expect(sees(300)).not.to.include(false);
    otherIs(PHASE.working);
    expect(sees(300)).not.to.include(false);
    ms += 990;
    expect(sees(300)).not.to.include(false);
    ms += 20;
    expect(sees(300).at(-1)).to.equal(false);
  });
});
