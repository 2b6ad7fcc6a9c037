/** mergerfs's options: which mean what happens here anyway, and what is said of the others. */
import { expect } from 'chai';
import { UsageError } from '../../../src/main/flags.ts';
import { acceptForeign, createPolicyOf } from '../../../src/main/mergerfs-options.ts';

describe('createPolicyOf', () => {
  const of = (text: string) =>
    createPolicyOf(text.split(',').map((item) => item.split('=') as [name: string, policy: string]));

  it('is undefined when nothing speaks of new names', () => {
    expect(createPolicyOf([])).to.equal(undefined);
    expect(of('category.action=epall,category.search=ff')).to.equal(undefined);
  });

  it('takes the category, the last one counting', () => {
    expect(of('category.create=ff,category.create=mfs')).to.equal('mfs');
  });

  it('takes single functions that agree', () => {
    expect(of('func.create=mfs,func.mkdir=mfs,func.mknod=mfs,func.symlink=mfs')).to.equal('mfs');
    expect(of('category.create=mfs,func.mkdir=mfs')).to.equal('mfs');
    expect(of('func.mkdir=ff,category.create=mfs')).to.equal('mfs');
  });

  it('takes policies of action and search that mean what happens anyway', () => {
    expect(of('func.chmod=epall,func.unlink=all,func.getattr=epff,func.open=ff,category.create=lus')).to.equal('lus');
  });

  const refused: readonly (readonly [string, string])[] = [
    ['func.create=mfs', 'func.create=mfs: one policy says where all that is new goes; use category.create'],
    [
      'category.create=mfs,func.mkdir=epall',
      'func.create=mfs,func.mkdir=epall,func.mknod=mfs,func.symlink=mfs: one policy says where all that is new goes; use category.create',
    ],
    [
      'category.action=epff',
      'category.action=epff is an option of mergerfs alone; leave it out: a file is on one branch, and directories change on all',
    ],
    [
      'func.getattr=newest',
      'func.getattr=newest is an option of mergerfs alone; leave it out: the first branch in order wins',
    ],
    ['func.readdir=cosr', 'func.readdir is an option of mergerfs alone; leave it out'],
    ['func.crate=mfs', 'unknown option func.crate; did you mean func.create?'],
    ['category.creat=mfs', 'unknown option category.creat; did you mean category.create?'],
    ['func.constructor=mfs', 'unknown option func.constructor; see --help'],
  ];
  for (const [options, message] of refused) {
    it(`refuses ${options}: ${message}`, () => {
      expect(() => of(options))
        .to.throw(UsageError)
        .with.property('message', message);
    });
  }
});

describe('acceptForeign', () => {
  it('accepts values that say what is done here', () => {
    for (const [name, value] of [
      ['moveonenospc', 'false'],
      ['link_cow', 'false'],
      ['xattr', 'passthrough'],
      ['posix_acl', undefined],
    ] as const) {
      expect(acceptForeign(name, value), name).to.equal(true);
    }
  });

  it('leaves options that are not of mergerfs alone to others', () => {
    expect(acceptForeign('cache', 'shared')).to.equal(false);
    expect(acceptForeign('toString', undefined)).to.equal(false);
  });

  it('names what to use instead', () => {
    expect(() => acceptForeign('cache.attr', '120')).to.throw(
      UsageError,
      'cache.attr is an option of mergerfs alone; use cache=shared or cache=exclusive',
    );
    expect(() => acceptForeign('symlinkify', 'true')).to.throw(
      'symlinkify is an option of mergerfs alone; leave it out',
    );
  });
});
