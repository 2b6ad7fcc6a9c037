/**
 * A program for tests: serves a union with options that `union-csi mount` does not have, until it is unmounted.
 * Its one argument is JSON: UnionOptions and `mountpoint`. What it logs goes to stderr.
 */
import { cloneDevice, mountDevice, openDevice, openUnion, type UnionOptions } from '../../fuse/index.ts';

interface Extra {
  readonly mountpoint: string;
  readonly readers?: number;
}

const { mountpoint, readers, ...options } = JSON.parse(process.argv[2]!) as UnionOptions & Extra;
const say = (event: string, fields = {}) => console.error(event, JSON.stringify(fields));
const union = openUnion(options);
const deviceFd = openDevice();
mountDevice({ deviceFd, mountpoint, fsname: 'union', readOnly: false });
// When asked, says what is open and known now.
process.on('SIGUSR2', () => {
  const { inodes, openHandles } = union.status();
  console.log(`status ${JSON.stringify({ inodes, openHandles })}`);
});
const session = await union.serve({
  devices: [deviceFd, ...cloneDevice(deviceFd, readers)],
  log: { error: say, warn: say },
});
await session.ended;
union.close();
