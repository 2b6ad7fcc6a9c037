/**
 * A program for tests: serves a union with options that `union-csi mount` does not have, until it is unmounted.
 * Its one argument is JSON: UnionOptions and `mountpoint`. With `state` and `devices` it is given the descriptors of state memory
 * and of a mount, as a keeper's server is, and does not mount, but says `serving` on stdout. What it logs goes to stderr.
 */
import { cloneDevice, mountDevice, openDevice, openUnion, type UnionOptions } from '../../fuse/index.ts';

interface Extra {
  readonly mountpoint: string;
  readonly readers?: number;
  readonly devices?: readonly number[];
}

const { mountpoint, readers, devices, ...options } = JSON.parse(process.argv[2]!) as UnionOptions & Extra;
const say = (event: string, fields = {}) => console.error(event, JSON.stringify(fields));
const union = openUnion(options);
// When asked, says what is open and known now.
process.on('SIGUSR2', () => {
  const { inodes, openHandles, branches } = union.status();
  console.log(`status ${JSON.stringify({ inodes, openHandles, branches })}`);
});
const session = await union.serve({ devices: devices ?? mounted(), log: { error: say, warn: say } });
// When asked, makes way for another server.
process.on('SIGUSR1', () => void session.handOver().then(() => process.kill(process.pid, 'SIGKILL')));
if (devices !== undefined) console.log('serving');
await session.ended;
await union.close();

function mounted(): readonly number[] {
  const deviceFd = openDevice();
  mountDevice({ deviceFd, mountpoint, fsname: 'union', readOnly: false });
  return [deviceFd, ...cloneDevice(deviceFd, readers)];
}
