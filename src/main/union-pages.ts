/**
 * What `kubectl union` asks a server pod, through the API server's proxy: how the union is doing, and on which branches a
 * path is. Names of files are nobody else's business, so `/where` wants the pod's UID, which only those know who may read
 * the pod. Looks at the branches, never at the mount.
 */
import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { OWN_DIRECTORY, type UnionStatus } from '../../fuse/index.ts';
import type { Copy } from '../protocol/server-pages.ts';
import type { Page } from './health.ts';

export interface PageSource {
  readonly volumeId: string;
  readonly podUid: string | undefined;
  /** Of the union that is open now, if one is. */
  readonly status: () => Promise<UnionStatus | undefined>;
}

export function unionPages({ volumeId, podUid, status }: PageSource) {
  const closed: Page = {
    status: 503,
    body: { message: `volume ${volumeId} is not open: its branches cannot be opened` },
  };
  return {
    '/status': async (): Promise<Page> => {
      const now = await status();
      return now === undefined ? closed : { status: 200, body: { volume: volumeId, ...now } };
    },
    '/where': async (query: URLSearchParams): Promise<Page> => {
      const branches = (await status())?.branches;
      if (podUid === undefined || query.get('pod') !== podUid) {
        return { status: 403, body: { message: 'pod must be the UID of this pod' } };
      }
      if (branches === undefined) return closed;
      return { status: 200, body: { copies: await copiesOf(query.get('path') ?? '', branches) } };
    },
  };
}

/** The copies of a file or directory, in the order of the branches; what an earlier branch hides is not among them. */
export async function copiesOf(
  path: string,
  branches: readonly { readonly id: string; readonly path: string }[],
): Promise<readonly Copy[]> {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..') || names[0] === OWN_DIRECTORY) return [];
  const copies: Copy[] = [];
  for (const branch of branches) {
    const found = await look(branch.path, names);
    if (found === undefined || (copies.length > 0 && found.kind !== 'directory')) continue;
    copies.push({ branch: branch.id, ...found });
    if (found.kind !== 'directory') break;
  }
  return copies;
}

function kindOf(found: Stats): Copy['kind'] {
  if (found.isDirectory()) return 'directory';
  if (found.isFile()) return 'file';
  return found.isSymbolicLink() ? 'link' : 'special';
}

/** Follows no link: it could lead out of the branch. */
async function look(root: string, names: readonly string[]): Promise<Omit<Copy, 'branch'> | undefined> {
  let path = root;
  for (const name of names.slice(0, -1)) {
    path = join(path, name);
    const parent = await lstat(path).catch(() => undefined);
    if (!parent?.isDirectory()) return undefined;
  }
  const found = await lstat(join(path, names.at(-1) ?? '')).catch(() => undefined);
  if (found === undefined) return undefined;
  return { kind: kindOf(found), sizeBytes: found.size };
}
