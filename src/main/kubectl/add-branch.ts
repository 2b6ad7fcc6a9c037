/** `kubectl union add-branch`: one more branch in a union's spec; the controller does the rest. */
import { parseQuantity } from '../../base/units.ts';
import { branchToAdd } from '../../union/add-branch.ts';
import { UsageError } from '../flags.ts';
import {
  type Asked,
  needUnion,
  PERSISTENT_VOLUME_CLAIM,
  POD,
  print,
  printJson,
  STORAGE_CLASS,
  theClaim,
} from './cluster.ts';

const MODES = ['RW', 'RO', 'NC'] as const;

export async function addBranch(asked: Asked): Promise<number> {
  const { cluster, branch, signal } = asked;
  const title = theClaim(asked);
  const { storageClassName, claim } = branch;
  if ((storageClassName === undefined) === (claim === undefined)) {
    throw new UsageError('say what to add: --class NAME --size SIZE for a new volume, or --claim NAME');
  }
  if (storageClassName !== undefined && branch.size === undefined) {
    throw new UsageError('--size is missing: how large the new volume is to be, such as 50Gi');
  }
  const mode = MODES.find((known) => known === (branch.mode ?? 'RW'));
  if (mode === undefined) throw new UsageError(`--mode ${branch.mode} is not one of ${MODES.join(', ')}`);
  const wanted = {
    mode,
    minFreeSpaceBytes: sizeOf(branch.reserve, 'reserve'),
    ...(claim === undefined
      ? { storageClassName: storageClassName!, sizeBytes: sizeOf(branch.size, 'size')! }
      : { claim }),
  };
  const { volume } = await needUnion(asked, title);
  const { namespace } = volume.spec.branches[0]!.claim;
  const [storageClasses, claims, pods] = await Promise.all([
    cluster.list(STORAGE_CLASS, undefined, signal),
    cluster.list(PERSISTENT_VOLUME_CLAIM, namespace, signal),
    cluster.list(POD, namespace, signal),
  ]);
  const planned = branchToAdd(volume, wanted, { storageClasses, claims, pods });
  if (!planned.ok) throw new Error(planned.error.message);
  const { spec, added } = planned.value;
  const written = await cluster.volumes.update({ ...volume, spec }, signal);
  if (!written.ok) throw new Error(`union "${volume.metadata.name}" changed meanwhile; try again`);
  if (asked.json) printJson(added);
  else print([`branch ${added.id} is being added to ${title}; kubectl union branches ${title} shows how far it is`]);
  return 0;
}

function sizeOf(text: string | undefined, flag: string): bigint | undefined {
  if (text === undefined) return undefined;
  const parsed = parseQuantity(text);
  if (!parsed.ok) throw new UsageError(`--${flag} ${parsed.error}`);
  return parsed.value;
}
