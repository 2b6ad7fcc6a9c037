/** How a union's status reads, and the rate between two samples. */
import { expect } from 'chai';
import { branchHelp } from '../../../src/main/branch.ts';
import { checkHelp } from '../../../src/main/check.ts';
import { formatDuration, formatStatus, statusHelp, withRate } from '../../../src/main/status.ts';
import { whereHelp } from '../../../src/main/where.ts';
import type { MountStatus } from '../../../src/protocol/mount-control.ts';

const status: MountStatus = {
  mountpoint: '/mnt/all',
  pid: 7,
  uptimeSeconds: 3_725,
  policies: ['category.create=mfs'],
  cache: 'shared',
  readOnly: false,
  branches: [
    {
      path: '/mnt/disk1',
      mode: 'RW',
      health: 'ok',
      message: '',
      minFreeSpaceBytes: 4 * 1024 ** 3,
      totalBytes: 1024 ** 4,
      usedBytes: 1024 ** 3,
      availableBytes: 1023 * 1024 ** 3,
      files: 12_345,
    },
    {
      path: '/b',
      mode: 'NC',
      health: 'read-only',
      message: 'the filesystem of /b takes no changes',
      minFreeSpaceBytes: 0,
      totalBytes: 0,
      usedBytes: 0,
      availableBytes: 0,
      files: 0,
    },
  ],
  operations: 1_000_000,
  knownInodes: 1_204,
  openHandles: 3,
  indexedNames: 1_300,
  namesAsked: 2_000,
  namesRemembered: 1_500,
  namesUnknown: 20,
  indexBytes: 1024 ** 2,
  movesUnderway: 1,
  filesMoved: 2_345,
  intents: ['/b/.union/intent-1.json'],
};

describe('formatStatus', () => {
  it('is a line of rules, a table of branches, and counts', () => {
    expect(formatStatus({ ...status, operationsPerSecond: 532 })).to.equal(
      [
        '/mnt/all: served by process 7 for 1 h 2 min, category.create=mfs,cache=shared',
        '',
        'branch      mode  health         size      used  available   reserve  inodes',
        '/mnt/disk1  RW    ok         1.00 TiB  1.00 GiB   1023 GiB  4.00 GiB  12,345',
        '/b          NC    read-only       0 B       0 B        0 B       0 B       0',
        '',
        '/b is read-only: the filesystem of /b takes no changes',
        '',
        'operations     1,000,000, 532 per second now',
        'open handles   3',
        'known inodes   1,204',
        'indexed names  1,300, 1.00 MiB with all tables',
        'names asked    2,000: 75 % from memory, 1 % by asking every branch',
        'moved files    2,345 from full branches, 1 moving now',
        'unfinished     /b/.union/intent-1.json',
        '',
      ].join('\n'),
    );
  });

  it('tells a read-only mount', () => {
    expect(formatStatus({ ...status, readOnly: true, operationsPerSecond: 0 })).to.include('cache=shared,ro\n');
  });
});

describe('withRate', () => {
  it('tells operations per second between two samples', () => {
    const later = { ...status, uptimeSeconds: status.uptimeSeconds + 0.5, operations: status.operations + 100 };
    expect(withRate(status, later)).to.include({ operations: 1_000_100, operationsPerSecond: 200 });
  });

  it('is 0 for two samples of one moment', () => {
    expect(withRate(status, status)).to.include({ operationsPerSecond: 0 });
  });
});

describe('formatDuration', () => {
  for (const [seconds, text] of [
    [0.4, '0 s'],
    [59, '59 s'],
    [60, '1 min'],
    [61, '1 min 1 s'],
    [3_601, '1 h'],
    [90_061, '1 d 1 h'],
  ] as const) {
    it(`says ${text} for ${seconds} seconds`, () => expect(formatDuration(seconds)).to.equal(text));
  }
});

describe('the help of commands about a mounted union', () => {
  for (const [name, help] of Object.entries({
    status: statusHelp,
    branch: branchHelp,
    check: checkHelp,
    where: whereHelp,
  })) {
    it(`of ${name} fits a screen`, () => {
      const lines = help.split('\n');
      expect(lines.length).to.be.at.most(25);
      for (const line of lines) expect(line.length).to.be.at.most(110);
    });
  }
});
