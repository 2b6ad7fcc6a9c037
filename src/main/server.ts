/**
 * `union-csi server`: serves one union, for as long as it is mounted. Runs as a pod for each volume and node; the node plugin
 * mounts and passes the FUSE descriptor (host/union-server.ts).
 *
 * SIGTERM means that the pod is to go. Applications come first: while the union is mounted it is only noted.
 */
import { closeSync } from 'node:fs';
import { openUnion } from '../../fuse/index.ts';
import type { Logger } from '../base/logger.ts';
import { DescriptorServer } from '../host/descriptor-server.ts';
import { type ServedUnion, UnionServer } from '../host/union-server.ts';
import { parseServerConfig, type ServerConfig } from '../protocol/server-config.ts';
import { parseFlags, required, UsageError } from './flags.ts';
import { createStderrLogger } from './stderr-logger.ts';

const help = `usage: union-csi server --socket PATH --config JSON

Serves one union of directories to the node plugin, which mounts it.
  --socket PATH  control socket to listen on
  --config JSON  {"volumeId", "branches": [{"id", "path", "mode", "minFreeSpaceBytes"}],
                  "policies": {"create", "action", "search"}, "passthrough", "cache"}

Ends with SIGTERM; while the union is mounted, only after the unmount.
`;

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags({
    args: argv,
    options: { socket: { type: 'string' }, config: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const path = required(values.socket, 'socket');
  const config = parseServerConfig(required(values.config, 'config'));
  if (!config.ok) throw new UsageError(`--config: ${config.error}`);

  const log = createStderrLogger('union-csi server', () => false, { volume: config.value.volumeId });
  const union = new UnionServer({
    volumeId: config.value.volumeId,
    open: ({ readOnly }) => openBranches(config.value, readOnly),
    log,
  });
  const ended = terminated(union, log); // before anyone can see the socket
  const socket = new DescriptorServer({ path, handle: (request, signal) => union.handle(request, signal), log });
  log.info('listening', { socket: path });
  await ended;
  await socket.close();
  await union.idle(); // a request that was under way may have begun to serve
  union.close();
  return 0;
}

/** Resolves after SIGTERM or SIGINT, and not before the union is unmounted. */
async function terminated(union: UnionServer, log: Logger): Promise<void> {
  await new Promise<void>((resolve) => {
    const onSignal = (signal: NodeJS.Signals) => {
      if (union.serving) log.warn('still mounted; ending after the unmount', { signal });
      resolve();
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
  await union.idle();
}

/** The filesystem as UnionServer wants it: branches without a write when read only, and the descriptors closed in the end. */
function openBranches(config: ServerConfig, readOnly: boolean): ServedUnion {
  const branches = readOnly ? config.branches.map((branch) => ({ ...branch, mode: 'RO' as const })) : config.branches;
  const union = openUnion({ ...config, branches, readOnly });
  return {
    serve: async ({ devices, log }) => {
      const closeDevices = () => devices.forEach((device) => void closeSync(device));
      try {
        const { ended } = await union.serve({ devices, log });
        return { ended: ended.finally(closeDevices) };
      } catch (error) {
        closeDevices();
        throw error;
      }
    },
    branches: () => union.status().branches,
    close: () => union.close(),
  };
}
