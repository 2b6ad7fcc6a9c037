import { expect } from 'chai';
import { type Content, decideFormat, type FilesystemRecord } from '../../../../src/block/driver/filesystem.ts';

const blank: Content = { kind: 'blank' };
const ext4: Content = { kind: 'filesystem', type: 'ext4' };
const xfs: Content = { kind: 'filesystem', type: 'xfs' };
const data: Content = { kind: 'unknown', what: 'data that no filesystem is known by' };

function decided(record: FilesystemRecord, content: Content): string {
  const decision = decideFormat(record, content, 'ext4');
  return decision.ok ? decision.value : 'refuse';
}

describe('decideFormat', () => {
  it('makes a filesystem on a blank volume that never had one', () => {
    expect(decided(undefined, blank)).to.equal('make');
  });

  it('makes it again when the making was interrupted, whatever is there by then', () => {
    for (const content of [blank, ext4, data]) {
      expect(decided({ type: 'ext4', state: 'Making' }, content)).to.equal('make');
    }
  });

  it('never makes one on a volume that had one, not even when nothing of it is found', () => {
    const made = { type: 'ext4', state: 'Made' } as const;
    expect(decided(made, ext4)).to.equal('use');
    for (const content of [blank, xfs, data]) expect(decided(made, content)).to.equal('refuse');
  });

  it('leaves data alone that it does not know', () => {
    expect(decided(undefined, data)).to.equal('refuse');
    expect(decided(undefined, xfs)).to.equal('refuse');
    expect(decided(undefined, ext4)).to.equal('use');
  });
});
