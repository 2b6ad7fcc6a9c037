/** Parsing of mountinfo, against lines escaped as the kernel escapes them. */
import { expect } from 'chai';
import fc from 'fast-check';
import {
  isBindOf,
  isWithin,
  type MountInfo,
  mountAt,
  mountOf,
  parseMountInfo,
  readMountInfo,
  unescapePath,
} from '../../../src/host/mountinfo.ts';

const sample = `22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue
40 28 0:55 / /srv/my\\040union rw,nosuid - fuse.union uv-1 rw,user_id=0
41 28 0:55 / /srv/plain ro - fuse.union uv-1 rw
this line is damaged
42 28 8:1 / /srv/plain rw - ext4 /dev/sda1 rw
`;

describe('mountOf', () => {
  const mounts = parseMountInfo(
    ['/ ext4', '/srv ext4', '/srv/plain fuse.union', '/srv/plain ext4', '/srv/pl xfs']
      .map((text, index) => `${index} 0 0:${index} / ${text.replace(' ', ' rw - ')} none rw`)
      .join('\n'),
  );

  it('is the nearest above, of several at one place the topmost', () => {
    expect(mountOf('/srv/plain/a/b', mounts)).to.include({ mountpoint: '/srv/plain', fsType: 'ext4' });
    expect(mountOf('/srv/plain', mounts)).to.include({ mountpoint: '/srv/plain' });
    expect(mountOf('/srv/plainer', mounts)).to.include({ mountpoint: '/srv' });
    expect(mountOf('/other', mounts)).to.include({ mountpoint: '/' });
  });
});

describe('isBindOf', () => {
  const lines = [
    '1 0 8:1 / / rw - ext4 /dev/sda1 rw',
    '2 1 0:6 / /dev rw - devtmpfs udev rw',
    '3 1 0:6 /loop7 /pods/a rw - devtmpfs udev rw',
    '4 1 0:6 /loop70 /pods/b rw - devtmpfs udev rw',
    '5 1 8:1 /loop7 /pods/c rw - ext4 /dev/sda1 rw',
    '6 1 0:9 / /box/dev rw - tmpfs tmpfs rw',
    '7 6 0:6 /loop7 /box/dev/loop7 rw - devtmpfs udev rw',
  ];
  const mounts = parseMountInfo(lines.join('\n'));
  const bindsOf = (source: string) =>
    mounts.filter((mount) => isBindOf(mount, source, mounts)).map(({ mountpoint }) => mountpoint);

  it('is told by the file system and the place in it', () => {
    expect(bindsOf('/dev/loop7')).to.deep.equal(['/pods/a', '/box/dev/loop7']);
    expect(bindsOf('/dev/loop70')).to.deep.equal(['/pods/b']);
    expect(bindsOf('/loop7')).to.deep.equal(['/pods/c']);
    expect(bindsOf('/dev')).to.deep.equal(['/dev']);
  });

  it('knows a device that is itself a bind', () => {
    expect(bindsOf('/box/dev/loop7')).to.deep.equal(['/pods/a', '/box/dev/loop7']);
  });
});

describe('parseMountInfo', () => {
  it('reads every field, with any number of optional ones', () => {
    const mounts = parseMountInfo(sample);
    expect(mounts).to.have.length(5);
    expect(mounts[1]).to.deep.equal({
      mountId: 36,
      parentId: 35,
      device: '98:0',
      root: '/mnt1',
      mountpoint: '/mnt2',
      options: ['rw', 'noatime'],
      fsType: 'ext3',
      source: '/dev/root',
      superOptions: ['rw', 'errors=continue'],
    } satisfies MountInfo);
  });

  it('undoes octal escapes', () => {
    expect(parseMountInfo(sample)[2]!.mountpoint).to.equal('/srv/my union');
  });

  it('reads the mounts of this machine', () => {
    expect(mountAt('/', readMountInfo())).to.include({ mountpoint: '/' });
  });

  it('finds any mountpoint again that the kernel has escaped', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', minLength: 1 }).filter((text) => !text.includes('\0')),
        (name) => {
          const line = `1 0 0:1 / /${escapeAsKernel(name)} rw - tmpfs ${escapeAsKernel(name)} rw`;
          const [mount] = parseMountInfo(line);
          expect(mount).to.include({ mountpoint: `/${name}`, source: name, fsType: 'tmpfs' });
        },
      ),
    );
  });

  it('does not fail on any text', () => {
    fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseMountInfo(text))));
    fc.assert(fc.property(fc.string(), (text) => typeof unescapePath(text) === 'string'));
  });
});

describe('mountAt', () => {
  it('is the topmost of several mounts on one path', () => {
    expect(mountAt('/srv/plain', parseMountInfo(sample))).to.include({ fsType: 'ext4' });
  });

  it('is undefined where nothing is mounted, below a mountpoint too', () => {
    expect(mountAt('/srv/plain/below', parseMountInfo(sample))).to.equal(undefined);
  });
});

describe('isWithin', () => {
  it('goes by path components', () => {
    expect(isWithin('/a/b', '/a')).to.equal(true);
    expect(isWithin('/a', '/a')).to.equal(true);
    expect(isWithin('/ab', '/a')).to.equal(false);
    expect(isWithin('/a', '/')).to.equal(true);
  });
});

/** seq_file's mangling of space, tab, newline, backslash and #. */
function escapeAsKernel(text: string): string {
  return text.replace(/[ \t\n\\#]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`);
}
