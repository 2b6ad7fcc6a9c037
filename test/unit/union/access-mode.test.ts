/** Access modes of a union: the intersection of its branches'. */
import { expect } from 'chai';
import {
  type BranchAccess,
  checkAccessModes,
  lowerAccessMode,
  supportedAccessModes,
} from '../../../src/union/access-mode.ts';

const branch = (modes: BranchAccess['modes'], mode: BranchAccess['mode'] = 'RW'): BranchAccess => ({
  name: 'claim "x"',
  mode,
  modes,
});

describe('supportedAccessModes', () => {
  it('is the intersection of the branches', () => {
    expect(supportedAccessModes([branch(['ReadWriteMany']), branch(['ReadWriteOnce'])])).to.deep.equal([
      'ReadWriteOnce',
      'ReadWriteOncePod',
    ]);
  });

  it('is everything over branches that can do everything, or whose driver alone knows', () => {
    expect(supportedAccessModes([branch(['ReadWriteMany']), branch(undefined)])).to.have.length(4);
  });

  it('takes a branch that many may read for one that is only read', () => {
    expect(supportedAccessModes([branch(['ReadOnlyMany'], 'RO'), branch(['ReadWriteMany'])])).to.have.length(4);
    expect(supportedAccessModes([branch(['ReadOnlyMany'])])).to.deep.equal(['ReadOnlyMany']);
  });
});

describe('checkAccessModes', () => {
  it('names the branch that cannot', () => {
    const result = checkAccessModes(['ReadWriteOnce', 'ReadWriteMany'], [branch(undefined), branch(['ReadWriteOnce'])]);
    expect(result.ok ? '' : result.error.message).to.equal(
      'access mode ReadWriteMany needs it of every branch, and claim "x" supports only ReadWriteOnce; ' +
        'ask for ReadWriteOnce or ReadWriteOncePod',
    );
  });
});

describe('lowerAccessMode', () => {
  it('asks for no more than is needed', () => {
    expect(lowerAccessMode(['ReadWriteOncePod'])).to.equal('ReadWriteOnce');
    expect(lowerAccessMode(['ReadWriteOnce', 'ReadOnlyMany'])).to.equal('ReadWriteMany');
  });
});
