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

/** Its readers may get requests before it is killed. */
const LINGER_MS = 50;

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
let makesWay = false;
process.on('SIGUSR1', async () => {
  makesWay = true;
  await session.handOver();
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), LINGER_MS);
});
if (devices !== undefined) console.log('serving');
await session.ended;
if (makesWay) say('made way, and took that for the end of the mount');
await union.close();

function mounted(): readonly number[] {
  const deviceFd = openDevice();
  mountDevice({ deviceFd, mountpoint, fsname: 'union', readOnly: false });
  return [deviceFd, ...cloneDevice(deviceFd, readers)];
}
