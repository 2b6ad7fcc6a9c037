/** The filesystem on a block volume's device: made where there never was one, and as large as the device. */
import { messageOf, UnionError } from '../../base/errors.ts';
import { decideFormat } from '../../block/driver/filesystem.ts';
import { probeContent } from '../../host/block-content.ts';
import { command } from '../../host/command.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import type { BlockVolume } from '../../protocol/block-resources.ts';

/** No blocks are kept back for root; what is zeros is so already. */
const MKFS: Readonly<Record<string, readonly string[]>> = {
  ext4: ['-q', '-F', '-b', '4096', '-m', '0', '-E', 'nodiscard,lazy_itable_init=1'],
  xfs: ['-q', '-f', '-K'],
};
/** e2fsck(8): errors were corrected. */
const CORRECTED = 1;

interface Prepared {
  readonly volumes: Repository<BlockVolume>;
  readonly volume: BlockVolume;
  readonly device: string;
  readonly fsType: string;
}

/** To be called before each mount. */
export async function prepareFilesystem(
  { volumes, volume, device, fsType }: Prepared,
  signal: AbortSignal,
): Promise<void> {
  const { metadata, spec, status } = volume;
  const record = async (state: 'Making' | 'Made') => {
    const patch = { metadata: { uid: metadata.uid }, status: { filesystem: { type: fsType, state } } };
    const written = await volumes.patchStatusMerge(metadata, patch, signal);
    if (!written.ok) throw new UnionError('ABORTED', written.error.message);
  };
  const sizeBytes = Number(status?.capacityBytes ?? spec.capacityBytes);
  const content = await probeContent(device, sizeBytes, signal);
  const decision = decideFormat(status?.filesystem, content, fsType);
  if (!decision.ok) throw new UnionError('FAILED_PRECONDITION', `volume ${metadata.name}: ${decision.error}`);
  if (decision.value === 'make') {
    await record('Making');
    await command(`mkfs.${fsType}`, [...(MKFS[fsType] ?? []), device], signal);
  } else if (fsType === 'ext4' && (await ext4Bytes(device, signal)) < sizeBytes) {
    await command('e2fsck', ['-f', '-p', device], signal).catch((error: unknown) => {
      if (!(error instanceof UnionError) || error.details.exitCode !== CORRECTED) throw error;
    });
    await command('resize2fs', [device], signal);
  }
  if (status?.filesystem?.state !== 'Made') await record('Made');
}

/** Makes the mounted filesystem as large as its device. */
export async function growFilesystem(
  { device, mountpoint, fsType }: { device: string; mountpoint: string; fsType: string },
  signal: AbortSignal,
): Promise<void> {
  if (fsType === 'xfs') {
    await command('xfs_growfs', [mountpoint], signal);
    return;
  }
  try {
    await command('resize2fs', [device], signal);
  } catch (error) {
    if (!messageOf(error).includes('Permission denied')) throw error;
    const message = `the filesystem on ${device} cannot grow while it is mounted: ext4 asks for CAP_SYS_RESOURCE, which this machine withholds; it grows when its pods are started anew`;
    throw new UnionError('FAILED_PRECONDITION', message, { cause: error });
  }
}

async function ext4Bytes(device: string, signal: AbortSignal): Promise<number> {
  const told = await command('dumpe2fs', ['-h', device], signal);
  const number = (name: string) => Number(new RegExp(`^${name}: +(\\d+)$`, 'm').exec(told)?.[1] ?? Number.NaN);
  return number('Block count') * number('Block size');
}
