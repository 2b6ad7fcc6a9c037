import { expect } from 'chai';
import { describeFailures, namesOf, parseReport } from '../../posix/pjdfstest.ts';

const output = `unlink::eloop_comp                          ok
unlink::unchanged_ctime_failed::fifo        FAILED
\tcalled \`Result::unwrap()\` on an \`Err\` value: PermissionDenied
Backtrace:
   0: pjdfstest::main::{{closure}}
   9: pjdfstest::tests::assert_ctime_unchanged

chown::erofs_named                          skipped
\tRemounts (allow_remount) are not allowed in the configuration file

Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total
`;

describe('parseReport', () => {
  it('reads each test’s outcome and explanation, and takes no backtrace for a test', () => {
    const report = parseReport(output);
    expect([...report.keys()]).to.have.length(3);
    expect(namesOf(report, 'ok')).to.deep.equal(['unlink::eloop_comp']);
    expect(namesOf(report, 'skipped')).to.deep.equal(['chown::erofs_named']);
    expect(report.get('unlink::unchanged_ctime_failed::fifo')?.detail).to.contain('PermissionDenied');
  });
});

describe('describeFailures', () => {
  it('groups failures by the system call', () => {
    expect(describeFailures(parseReport(output))).to.match(
      /^ {2}unlink 1\n {4}unlink::unchanged_ctime_failed::fifo {2}called/,
    );
  });
});
