import { expect } from 'chai';
import { judge } from '../../posix/stress-ng.ts';

describe('what became of a stressor', () => {
  const skipped = (pid: number) =>
    [
      `stress-ng: info:  [${pid - 1}] binderfs: binderfs not supported, errno=19 (No such device), skipping stress test`,
      `stress-ng: warn:  [${pid - 1}] process [${pid}] (binderfs) aborted early, out of system resources`,
    ].join('\n');

  it('is the same whatever the numbers of its processes were', () => {
    expect(judge(skipped(100), 3)).to.deep.equal(judge(skipped(2000), 3));
    expect(judge(skipped(100), 3).kind).to.equal('skipped');
  });

  it('is a failure when it complains, or ends with an error', () => {
    expect(judge('stress-ng: fail:  [7] link: link count is 3, expected 2', 2)).to.deep.equal({
      kind: 'failed',
      reason: 'link: link count is 3, expected 2',
    });
    expect(judge('', 'SIGKILL').kind).to.equal('failed');
    expect(judge('', 0)).to.deep.equal({ kind: 'passed' });
  });
});
