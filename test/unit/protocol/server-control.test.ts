/** Both sides of the control protocol, and the server's configuration. */
import { expect } from 'chai';
import fc from 'fast-check';
import { parseServerConfig, type ServerConfig } from '../../../src/protocol/server-config.ts';
import {
  parseAcknowledgement,
  parseServerRequest,
  parseServerStatus,
  type ServerStatus,
} from '../../../src/protocol/server-control.ts';

describe('server control protocol', () => {
  it('reads its own requests', () => {
    for (const request of [
      { op: 'status' },
      { op: 'stop' },
      { op: 'custody' },
      { op: 'serve', device: '0:50', readOnly: true },
    ]) {
      expect(parseServerRequest(JSON.parse(JSON.stringify(request)))).to.deep.equal({ ok: true, value: request });
    }
  });

  it('says what is wrong with a request', () => {
    expect(parseServerRequest([])).to.deep.equal({ ok: false, error: 'a request must be a JSON object' });
    expect(parseServerRequest({ op: 'x' })).to.deep.equal({
      ok: false,
      error: 'unknown op "x"; known are status, serve, check, make-way, custody, feed, stop',
    });
    expect(parseServerRequest({ op: 'serve' })).to.deep.equal({
      ok: false,
      error: 'serve must say device and readOnly',
    });
  });

  it('reads its own status', () => {
    const branch = {
      id: 'b0',
      path: '/branches/b0',
      mode: 'RW',
      health: 'slow',
      message: 'm',
      totalBytes: 9,
      usedBytes: 4,
      availableBytes: 5,
      files: 1,
    } as const;
    const status: ServerStatus = {
      ok: true,
      volume: 'uv-1',
      state: 'serving',
      message: 'm',
      leaving: true,
      branches: [branch],
      pid: 7,
    };
    expect(parseServerStatus(JSON.parse(JSON.stringify(status)))).to.deep.equal({ ok: true, value: status });
  });

  it('reads a refusal, and takes what is no answer for one', () => {
    const refusal = { ok: false, code: 'UNAVAILABLE', message: 'later' };
    expect(parseAcknowledgement(refusal)).to.deep.equal({ ok: false, error: refusal });
    expect(parseAcknowledgement({ ok: true })).to.deep.equal({ ok: true, value: undefined });
    expect(parseAcknowledgement('yes')).to.have.nested.property('error.code', 'INTERNAL');
  });

  it('does not fail on any JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        parseServerRequest(value);
        parseServerStatus(value);
        parseAcknowledgement(value);
        parseServerConfig(JSON.stringify(value));
      }),
    );
  });
});

describe('parseServerConfig', () => {
  const config: ServerConfig = {
    volumeId: 'uv-1',
    branches: [{ id: 'b0', path: '/branches/b0', mode: 'RW', minFreeSpaceBytes: 0 }],
    policies: { create: 'mspmfs', action: 'ff', search: 'ff' },
    passthrough: true,
    cache: 'exclusive',
  };

  it('reads what was written', () => {
    expect(parseServerConfig(JSON.stringify(config))).to.deep.equal({ ok: true, value: config });
  });

  const wrong: readonly (readonly [object, string])[] = [
    [{ volumeId: '' }, 'volumeId must be a text'],
    [{ branches: [] }, 'branches must be a list with at least one branch'],
    [
      { branches: [...config.branches, { id: 'b1' }] },
      'branches[1] must have id, path, mode (RW, RO or NC) and minFreeSpaceBytes',
    ],
    [{ policies: {} }, 'policies must have create, action and search'],
    [{ passthrough: 1 }, 'passthrough must be true or false'],
    [{ cache: 'none' }, 'cache must be exclusive or shared'],
  ];
  for (const [change, message] of wrong) {
    it(`says: ${message}`, () => {
      expect(parseServerConfig(JSON.stringify({ ...config, ...change }))).to.deep.equal({ ok: false, error: message });
    });
  }

  it('says that a text is not JSON', () => {
    expect(parseServerConfig('{')).to.deep.equal({ ok: false, error: 'not JSON' });
  });
});
