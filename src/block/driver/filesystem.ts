/**
 * Whether a filesystem is made on a volume. Only where nobody has ever used one, and the content is positively blank: "made" is
 * written down before the volume is used for the first time, and that a probe found nothing is no proof of anything.
 */
import { err, ok, type Result } from '../../base/result.ts';
import type { BlockVolumeStatus } from '../../protocol/block-resources.ts';

export type FilesystemRecord = BlockVolumeStatus['filesystem'];

/** As host/block-content.ts finds it; blank: blkid knows nothing of it, and what was looked at is zeros. */
export type Content =
  | { readonly kind: 'blank' }
  | { readonly kind: 'filesystem'; readonly type: string }
  | { readonly kind: 'unknown'; readonly what: string };

/** The error is a message for people. */
export function decideFormat(
  record: FilesystemRecord,
  content: Content,
  wanted: string,
): Result<'make' | 'use', string> {
  if (record?.state === 'Making') return ok('make'); // nobody has got it yet
  const found = content.kind === 'filesystem' ? `an ${content.type} filesystem` : content.kind;
  if (record?.state === 'Made') {
    if (content.kind === 'filesystem' && content.type === record.type) return ok('use');
    const what = content.kind === 'unknown' ? content.what : found;
    return err(`the volume should have an ${record.type} filesystem and is ${what}; restore it, or delete the volume`);
  }
  if (content.kind === 'blank') return ok('make');
  if (content.kind === 'filesystem' && content.type === wanted) return ok('use');
  const what = content.kind === 'unknown' ? content.what : found;
  return err(`the volume is not blank (${what}), and no filesystem of ours was ever made on it; it is left as it is`);
}
