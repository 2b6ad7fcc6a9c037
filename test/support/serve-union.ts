/**
 * A program for tests: serves a union with options that `union-csi mount` does not have, until it is unmounted.
 * Its one argument is JSON: UnionOptions and `mountpoint`. What it logs goes to stderr.
 */
import { cloneDevice, mountDevice, openDevice, openUnion, type UnionOptions } from '../../fuse/index.ts';

const { mountpoint, ...options } = JSON.parse(process.argv[2]!) as UnionOptions & { mountpoint: string };
const say = (event: string, fields = {}) => console.error(event, JSON.stringify(fields));
const union = openUnion(options);
const deviceFd = openDevice();
mountDevice({ deviceFd, mountpoint, fsname: 'union', readOnly: false });
const session = await union.serve({ devices: [deviceFd, ...cloneDevice(deviceFd)], log: { error: say, warn: say } });
await session.ended;
const { inodes, openHandles } = union.status();
console.log(JSON.stringify({ inodes, openHandles }));
union.close();
