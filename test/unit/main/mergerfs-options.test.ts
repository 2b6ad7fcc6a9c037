/** mergerfs's options: which mean what happens here anyway, and what is said of the others. */
import { expect } from 'chai';
import { UsageError } from '../../../src/main/flags.ts';
import { acceptForeign } from '../../../src/main/mergerfs-options.ts';

describe('acceptForeign', () => {
  it('accepts values that say what is done here', () => {
    for (const [name, value] of [
      ['link_cow', 'false'],
      ['xattr', 'passthrough'],
      ['posix_acl', undefined],
      ['posix-acl', 'true'],
      ['use_ino', undefined],
      ['passthrough.io', 'rw'],
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
