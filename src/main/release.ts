/** `union-csi release`: takes the union's records off a branch that is given back. Runs as a pod that mounts the claim. */
import { releaseBranch } from '../../fuse/index.ts';
import { parseFlags, required, UsageError } from './flags.ts';

const HELP = `usage: union-csi release --volume ID PATH

Removes what union ID keeps in PATH/.union for itself. Files that it set aside there stay. No union may use the branch.
`;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(HELP, {
    args: argv,
    allowPositionals: true,
    options: { volume: { type: 'string' } },
  });
  const volumeId = required(values.volume, 'volume');
  const [path, extra] = positionals;
  if (path === undefined || extra !== undefined) throw new UsageError('name one branch; see --help');
  const kept = releaseBranch(path, volumeId);
  process.stdout.write(
    kept.length === 0
      ? `${path} has no records of union ${volumeId} any more\n`
      : `${path}/.union keeps what is not the union's own: ${kept.join(', ')}\n`,
  );
  return 0;
}
