/** `node null-server.ts SOCKET VOLUME`: a null union's server as a process of its own, for tests that kill it. Says "up". */
import { join } from 'node:path';
import { isMounted } from '../../fuse/index.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { DescriptorServer } from '../../src/host/descriptor-server.ts';
import { FedBranches } from '../../src/host/fed-branches.ts';
import { UnionServer } from '../../src/host/union-server.ts';
import { nullUnion } from './null-union.ts';

const [, , path = '', volumeId = ''] = process.argv;
const union = new UnionServer({
  volumeId,
  open: nullUnion,
  fed: new FedBranches(join(path, '../branches')),
  unreadable: () => undefined,
  isMounted,
  die: () => process.kill(process.pid, 'SIGKILL'),
  log: silentLogger,
});
const socket = new DescriptorServer({
  path,
  handle: (request, signal) => union.handle(request, signal),
  log: silentLogger,
});
process.on('SIGTERM', () => {
  union.isLeaving = true;
  socket.nudge();
});
console.log('up');
