import { expect } from 'chai';
import fc from 'fast-check';
import { parseMountControlRequest, parseMountStatus } from '../../../src/protocol/mount-control.ts';

describe('parseMountControlRequest', () => {
  it('reads every request, leaving out what it does not know', () => {
    for (const request of [
      { op: 'status' },
      { op: 'upgrade' },
      { op: 'branch.set', path: '/a' },
      { op: 'branch.set', path: '/a', mode: 'NC', minFreeSpaceBytes: 0 },
      { op: 'branch.add', path: '/a', mode: 'RW', minFreeSpaceBytes: 5 },
      { op: 'branch.remove', path: '/a' },
    ]) {
      expect(parseMountControlRequest({ ...request, more: 1 })).to.deep.equal({ ok: true, value: request });
    }
  });

  const refused: readonly (readonly [unknown, string])[] = [
    ['status', 'a request must be a JSON object'],
    [{ op: 'stop' }, 'unknown op "stop"; known are status, upgrade, branch.set, branch.add, branch.remove'],
    [{ op: 'branch.remove' }, 'path of branch.remove must be a string'],
    [{ op: 'branch.set' }, 'path of branch.set must be a string'],
    [{ op: 'branch.set', path: '/a', mode: 'XX' }, 'mode of branch.set must be one of RW, RO, NC'],
    [{ op: 'branch.add', path: '/a' }, 'mode of branch.add must be one of RW, RO, NC'],
    [{ op: 'branch.add', path: '/a', mode: 'RW' }, 'minFreeSpaceBytes of branch.add must be a number of bytes'],
    [
      { op: 'branch.set', path: '/a', minFreeSpaceBytes: -1 },
      'minFreeSpaceBytes of branch.set must be a number of bytes',
    ],
  ];
  for (const [request, message] of refused) {
    it(`refuses ${JSON.stringify(request)}: ${message}`, () => {
      expect(parseMountControlRequest(request)).to.deep.equal({ ok: false, error: message });
    });
  }

  it('throws for nothing that JSON can say', () => {
    fc.assert(fc.property(fc.jsonValue(), (value) => void parseMountControlRequest(value)));
  });
});

describe('parseMountStatus', () => {
  const branch = {
    path: '/a',
    mode: 'RW',
    health: 'ok',
    message: '',
    minFreeSpaceBytes: 1,
    totalBytes: 2,
    usedBytes: 3,
    availableBytes: 4,
    files: 5,
  };
  const status = {
    mountpoint: '/m',
    pid: 1,
    uptimeSeconds: 1.5,
    policies: ['category.create=ff'],
    cache: 'shared',
    readOnly: false,
    branches: [branch],
    operations: 2,
    knownInodes: 3,
    openHandles: 4,
    indexedNames: 5,
    namesAsked: 9,
    namesRemembered: 8,
    namesUnknown: 1,
    indexBytes: 6,
    movesUnderway: 7,
    filesMoved: 8,
    intents: ['/a/.union/intent-1.json'],
  };

  it('reads a status, and more than it knows', () => {
    expect(parseMountStatus({ ok: true, ...status })).to.deep.equal(status);
  });

  it('is undefined when anything is missing', () => {
    for (const name of Object.keys(status)) {
      expect(parseMountStatus({ ...status, [name]: undefined }), name).to.equal(undefined);
    }
  });

  it('leaves out branches that it cannot read', () => {
    expect(parseMountStatus({ ...status, branches: [branch, { ...branch, health: 'odd' }, null] })).to.deep.equal(
      status,
    );
  });
});
