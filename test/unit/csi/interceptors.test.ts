/** What surrounds RPCs: secrets, statuses. Deadlines and cancellation are tested over a socket, in server.test.ts. */
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { UnionError } from '../../../src/base/errors.ts';
import { redact, toStatus } from '../../../src/csi/interceptors.ts';

describe('redact', () => {
  it('hides every field that csi.proto marks as secret, at any depth, and mount flags', () => {
    const proto = readFileSync(new URL('../../../src/protocol/csi.proto', import.meta.url), 'utf8');
    const marked = [...proto.matchAll(/(\w+) = \d+ \[\(csi_secret\) = true\]/g)].map(([, field]) => field!);
    expect(marked).to.have.length.above(10);
    for (const field of new Set([...marked, 'mountFlags'])) {
      const request = { volumeId: 'v', nested: [{ [field]: { password: 'hunter2' } }] };
      expect(redact(request)).to.deep.equal({ volumeId: 'v', nested: [{ [field]: '(redacted)' }] });
    }
  });
});

describe('toStatus', () => {
  const { signal } = new AbortController();

  it('passes a UnionError on, and takes anything else for a bug', () => {
    const error = new UnionError('OUT_OF_RANGE', 'too large');
    expect(toStatus(error, signal)).to.deep.equal({ code: 'OUT_OF_RANGE', details: 'too large' });
    expect(toStatus(new TypeError('x'), signal)).to.deep.equal({ code: 'INTERNAL', details: 'x' });
    expect(toStatus('text', signal)).to.deep.equal({ code: 'INTERNAL', details: 'text' });
  });

  it('takes what is thrown because the call ended for its end, not for a bug', () => {
    const late = AbortSignal.abort(new UnionError('DEADLINE_EXCEEDED', 'late'));
    expect(toStatus(new Error('socket hang up'), late).code).to.equal('DEADLINE_EXCEEDED');
    expect(toStatus(new Error('aborted'), AbortSignal.abort()).code).to.equal('CANCELLED');
  });
});
