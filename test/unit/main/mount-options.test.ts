/** The command line of mount: what it means, and the message for each thing that can be wrong. */
import { expect } from 'chai';
import fc from 'fast-check';
import { HelpAsked, UsageError } from '../../../src/main/flags.ts';
import { type MountRequest, mountHelp, parseBranch, parseMountArguments } from '../../../src/main/mount-options.ts';

describe('parseMountArguments', () => {
  it('has defaults', () => {
    expect(parse('/a:/b', '/m')).to.deep.equal({
      branches: [
        { path: '/a', mode: 'RW', minFreeSpaceBytes: undefined },
        { path: '/b', mode: 'RW', minFreeSpaceBytes: undefined },
      ],
      source: '/a:/b',
      mountpoint: '/m',
      foreground: false,
      policies: { create: 'pfrd', action: 'epall', search: 'ff', functions: {} },
      moveOnNoSpace: true,
      keep: undefined,
      minFreeSpaceBytes: undefined,
      fsname: undefined,
      readOnly: false,
      restrictions: [],
      cache: 'shared',
    } satisfies MountRequest);
  });

  it('takes a line of fstab over', () => {
    const options =
      'defaults,allow_other,nofail,x-systemd.automount,category.create=mfs,minfreespace=4G,fsname=pool,ro,moveonenospc=false,dropcacheonclose=false';
    const request = parse('-o', options, '/a', '/m');
    expect(request.policies.create).to.equal('mfs');
    expect(request).to.include({
      minFreeSpaceBytes: 4 * 1024 ** 3,
      moveOnNoSpace: false,
      fsname: 'pool',
      readOnly: true,
    });
  });

  it('takes a policy for files whose branch is full, or whether they move at all', () => {
    expect(parse('-o', 'moveonenospc=mfs', '/a', '/m').moveOnNoSpace).to.equal('mfs');
    expect(parse('-o', 'moveonenospc=true', '/a', '/m').moveOnNoSpace).to.equal(true);
    expect(parse('-o', 'moveonenospc', '/a', '/m').moveOnNoSpace).to.equal(true);
  });

  it('takes options at any place, several times, the last one counting', () => {
    const request = parse('/a', '-o', 'ro', '/m', '-o', 'rw,category.create=ff', '-f');
    expect(request).to.include({ readOnly: false, foreground: true });
    expect(request.policies.create).to.equal('ff');
  });

  it('passes on what is forbidden on the mount, the last word counting', () => {
    expect(parse('-o', 'nosuid,nodev,noexec,dev', '/a', '/m').restrictions).to.deep.equal(['nosuid', 'noexec']);
  });

  it('have a help that fits a screen', () => {
    expect(() => parseMountArguments(['--help']))
      .to.throw(HelpAsked)
      .with.property('help', mountHelp);
    const lines = mountHelp.split('\n');
    expect(lines.length).to.be.at.most(25);
    for (const line of lines) expect(line.length).to.be.at.most(110);
  });

  const refused: readonly (readonly [readonly string[], string])[] = [
    [[], 'branches and mountpoint are missing; see --help'],
    [['/a'], 'the mountpoint is missing: union-csi mount BRANCH:BRANCH… MOUNTPOINT'],
    [['/a', '/b', '/m'], 'unexpected argument /m; branches are one argument, separated by colons (quote globs)'],
    [['--forground', '/a', '/m'], 'unknown flag --forground; did you mean --foreground?'],
    [['-x', '/a', '/m'], 'unknown flag -x; see --help'],
    [['/a', '/m', '-o'], '--option needs a value'],
    [['-o', 'minfreespac=1', '/a', '/m'], 'unknown option minfreespac; did you mean minfreespace?'],
    [['-o', 'zzzzzzzzzz', '/a', '/m'], 'unknown option zzzzzzzzzz; see --help'],
    [['-o', 'category.create', '/a', '/m'], 'option category.create needs a value: category.create=…'],
    [['-o', 'ro=1', '/a', '/m'], 'option ro takes no value'],
    [
      ['-o', 'minfreespace=lots', '/a', '/m'],
      'minfreespace: "lots" is not a size; write bytes or a number with a unit, such as 10Gi',
    ],
    [['-o', 'cache=excluive', '/a', '/m'], 'unknown cache excluive; did you mean exclusive?'],
    [['-o', 'remount,ro', '/a', '/m'], 'a union cannot be remounted; unmount it, or use union-csi branch set'],
    [['-o', 'noexe', '/a', '/m'], 'unknown option noexe; did you mean noexec?'],
    [
      ['-o', 'inodecalc=x', '/a', '/m'],
      'inodecalc is an option of mergerfs alone; leave it out: inode numbers are persistent',
    ],
    [['/a=RX', '/m'], 'unknown mode RX of branch /a; did you mean RW?'],
    [['/a=RW,1G,2', '/m'], 'branch /a=RW,1G,2 has too many commas; write PATH=MODE,MINFREE'],
    [['=RW', '/m'], 'branch =RW has no path before the ='],
  ];
  for (const [argv, message] of refused) {
    it(`refuses ${JSON.stringify(argv.join(' '))}: ${message}`, () => {
      expect(() => parseMountArguments(argv)).to.throw(UsageError, new RegExp(`^${escapeRegExp(message)}$`));
    });
  }
});

describe('parseBranch', () => {
  it('reads mode and reserve in any case, sizes as powers of 1024', () => {
    expect(parseBranch('/a=ro')).to.deep.equal({ path: '/a', mode: 'RO', minFreeSpaceBytes: undefined });
    expect(parseBranch('/a=NC,10m')).to.deep.equal({ path: '/a', mode: 'NC', minFreeSpaceBytes: 10 * 1024 ** 2 });
  });

  it('leaves an = in the path alone where a mode follows, or a slash', () => {
    expect(parseBranch('/a=b=RW')).to.include({ path: '/a=b', mode: 'RW' });
    expect(parseBranch('/a=b/c')).to.include({ path: '/a=b/c', mode: 'RW' });
  });

  it('returns what was written, for any path', () => {
    const path = fc.string({ minLength: 1 }).map((text) => `/${text}`);
    fc.assert(
      fc.property(path, fc.constantFrom('RW', 'RO', 'NC'), fc.nat(), (path, mode, minFreeSpaceBytes) => {
        expect(parseBranch(`${path}=${mode},${minFreeSpaceBytes}`)).to.deep.equal({ path, mode, minFreeSpaceBytes });
      }),
    );
  });
});

function parse(...argv: string[]): MountRequest {
  return parseMountArguments(argv);
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
