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

  it('knows every option that mergerfs has or had, by either way of writing it', () => {
    const options =
      `allow-idmap async-read atomic-o-trunc attr-timeout auto-cache big-writes branches branches-mount-timeout
      branches-mount-timeout-fail cache.attr cache.entry cache.files cache.files.process-names cache.negative-entry cache.open
      cache.readdir cache.statfs cache.symlinks cache.writeback config debug direct-io direct-io-allow-mmap dropcacheonclose
      entry-timeout export-support flush-on-close follow-symlinks fuse-msg-size gid gid-cache.expire-timeout
      gid-cache.remove-timeout handle-killpriv handle-killpriv-v2 hard-remove ignorepponrename inodecalc kernel-cache
      kernel-permissions-check lazy-umount-mountpoint link-cow link-exdev log.file negative-entry never-forget-nodes nfsopenhack
      no-splice-move no-splice-read no-splice-write noforget nonempty nullrw parallel-direct-writes passthrough.io
      passthrough.max-stack-depth pin-threads posix-acl process-thread-count process-thread-queue-depth proxy-ioprio
      read-thread-count readahead remember remember-nodes rename-exdev scheduling-priority security-capability splice-move
      splice-read splice-write srcmounts statfs statfs-ignore symlinkify symlinkify-timeout sync-read threads uid umask use-ino
      xattr`.split(/\s+/);
    const isKnown = (option: string) => {
      try {
        return acceptForeign(option, 'some value');
      } catch (error) {
        return String(error).includes(`${option} is an option of mergerfs alone; `);
      }
    };
    for (const option of options) {
      expect(isKnown(option), option).to.equal(true);
      expect(isKnown(option.replaceAll('-', '_')), option).to.equal(true);
    }
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
