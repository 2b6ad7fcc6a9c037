/** `kubectl union where`: on which branches a path is, as the union's server finds it. */
import { formatBytes } from '../../base/units.ts';
import { type Copy, parseCopies } from '../../protocol/server-pages.ts';
import { UsageError } from '../flags.ts';
import { formatTable } from '../table.ts';
import { type Asked, askServer, needUnion, print, printJson, theClaim } from './cluster.ts';

export async function where(asked: Asked): Promise<number> {
  const claim = theClaim(asked, { extra: true });
  const paths = asked.words.slice(1);
  if (paths.length === 0) throw new UsageError('a path is missing: kubectl union where CLAIM PATH…');
  const { volume, attachments } = await needUnion(asked, claim);
  const attachment = attachments.find(({ status }) => status?.phase === 'Running');
  const pod = attachment?.status?.pod;
  if (attachment === undefined || pod === undefined) {
    throw new Error(`claim "${claim}" is used by no pod now, and only its server can tell; start a pod that mounts it`);
  }
  const found = await Promise.all(
    paths.map(async (path) => {
      const query = { pod: pod.uid, path };
      const answer = await askServer(asked.cluster.client, attachment, '/where', query, asked.signal);
      return { path, copies: parseCopies(answer) ?? [] };
    }),
  );
  const claimOf = ({ branch }: Copy) => volume.spec.branches.find(({ id }) => id === branch)?.claim;
  const volumeOf = ({ branch }: Copy) => volume.status?.branches?.find(({ id }) => id === branch)?.persistentVolume;
  if (asked.json) {
    printJson(
      found.map(({ path, copies }) => ({
        path,
        copies: copies.map((copy) => ({ ...copy, claim: claimOf(copy), persistentVolume: volumeOf(copy) })),
      })),
    );
  } else {
    const rows = found.flatMap(({ path, copies }) =>
      copies.map((copy) => {
        const lower = claimOf(copy);
        const size = copy.kind === 'file' ? formatBytes(copy.sizeBytes) : '-';
        return [path, copy.branch, copy.kind, `${lower?.namespace}/${lower?.name}`, volumeOf(copy) ?? '-', size];
      }),
    );
    if (rows.length > 0) print(formatTable([['PATH', 'BRANCH', 'KIND', 'CLAIM', 'VOLUME', 'SIZE'], ...rows], 5));
  }
  const missing = found.filter(({ copies }) => copies.length === 0);
  for (const { path } of missing) process.stderr.write(`${path} is on no branch\n`);
  return missing.length === 0 ? 0 : 1;
}
