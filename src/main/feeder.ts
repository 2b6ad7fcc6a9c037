/**
 * `union-csi feeder`: lends the directory of a branch to the server of its union, which was started before the branch was added. Runs as
 * a pod that has the branch mounted (union/feeder-pod.ts).
 *
 * What it lent lies in the mounts of this container, which end with it: while the server may use it, SIGTERM is only noted.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { UnionError } from '../base/errors.ts';
import { DescriptorServer, WithDescriptors } from '../host/descriptor-server.ts';
import { parseFeederRequest } from '../protocol/feeding.ts';
import { parseFlags, required, UsageError } from './flags.ts';
import { createStderrLogger } from './stderr-logger.ts';

const HELP = `usage: union-csi feeder --socket PATH DIRECTORY

Gives the descriptor of a directory to whoever asks on the socket. Ends with SIGTERM, and not before what it lent is given back.
`;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(HELP, {
    args: argv,
    allowPositionals: true,
    options: { socket: { type: 'string' } },
  });
  const path = required(values.socket, 'socket');
  const [directory, extra] = positionals;
  if (directory === undefined || extra !== undefined) throw new UsageError('name one directory; see --help');
  const log = createStderrLogger('union-csi feeder', () => false);
  const branch = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  const ended = Promise.withResolvers<void>();
  const is = { lent: false, ending: false };
  const end = () => {
    is.ending = true;
    if (is.lent) log.warn('still in use; ending after the unmount');
    else ended.resolve();
  };
  process.on('SIGTERM', end).on('SIGINT', end);
  const socket = new DescriptorServer({
    path,
    handle: async ({ message, descriptors }) => {
      for (const descriptor of descriptors) closeSync(descriptor);
      const request = parseFeederRequest(message);
      if (!request.ok) throw new UnionError('INVALID_ARGUMENT', request.error);
      is.lent = request.value.op === 'lend';
      if (is.lent) return new WithDescriptors({ ok: true }, [branch]);
      if (is.ending) ended.resolve();
      return { ok: true };
    },
    log,
  });
  log.info('listening', { socket: path });
  await ended.promise;
  await socket.close();
  closeSync(branch);
  return 0;
}
