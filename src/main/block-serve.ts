/**
 * `union-csi block-serve`: one replica of a block volume on this machine, served over NBD while it is the primary; needs no cluster.
 * Flushes and ends with SIGTERM.
 */
import type { ListenOptions } from 'node:net';
import { join } from 'node:path';
import { UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { parseQuantity } from '../base/units.ts';
import { geometryOf } from '../block/areas.ts';
import type { Geometry } from '../block/superblock.ts';
import { type LocalReplica, openLocalReplica } from '../host/block/local-volume.ts';
import { PeerListener } from '../host/block/peer-listener.ts';
import { type PeerAddress, PeerNetwork } from '../host/block/peer-network.ts';
import { ReplicaFiles } from '../host/block/replica-files.ts';
import { ReplicaHost } from '../host/block/replica-host.ts';
import { allowLargeBuffers } from '../host/buffers.ts';
import { ByteDevice } from '../host/nbd/byte-device.ts';
import { NbdExport } from '../host/nbd/exports.ts';
import { NbdServer } from '../host/nbd/server.ts';
import { readTlsFiles, type TlsFiles } from '../host/tls.ts';
import { parseFlags, parsePort, UsageError } from './flags.ts';
import { createStderrLogger } from './stderr-logger.ts';

const help = `usage: union-csi block-serve [FLAG…] DIRECTORY

Serves the block volume in DIRECTORY over NBD, on a unix socket or a TCP port.
  --size SIZE        make a volume of this size if there is none: 10Gi
  --socket PATH      unix socket to listen on
  --port PORT        TCP port to listen on; 0 chooses one
  --host ADDRESS     with --port; default 127.0.0.1
  --tls DIRECTORY    serve with TLS only, to clients whose certificate is of the authority:
                     ca-cert.pem, server-cert.pem and server-key.pem lie there

With several replicas, one process for each:
  --config DIRECTORY  the volume's configuration, which all of them share
  --id NAME           which of the members this is
  --member NAME=HOST:PORT
                      a member, and where it listens for the others; once for each, this one too
  --peer-tls DIRECTORY  as --tls, between members; the common name of each certificate is the member's name;
                      union-csi block-ca makes some

Prints one line with its address once clients can come. Those who come while another replica is the primary are sent away.
Ends with SIGTERM, after a flush.
`;

const ONLY_MEMBER = 'local';

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(help, {
    args: argv,
    allowPositionals: true,
    options: {
      size: { type: 'string' },
      socket: { type: 'string' },
      port: { type: 'string' },
      host: { type: 'string' },
      tls: { type: 'string' },
      config: { type: 'string' },
      id: { type: 'string' },
      member: { type: 'string', multiple: true },
      'peer-tls': { type: 'string' },
    },
  });
  const [directory, ...more] = positionals;
  if (directory === undefined || more.length > 0) throw new UsageError('give one directory; see --help');
  const members = new Map(values.member?.map(parseMember));
  const id = values.id ?? ONLY_MEMBER;
  if (members.size > 0 && !members.has(id)) throw new UsageError(`--id ${id} is none of the members; see --help`);
  if (members.size > 0 && values.config === undefined) throw new UsageError('--member needs --config; see --help');
  const listen = listenOptions(values);
  allowLargeBuffers();
  const replica = await openLocalReplica({
    directory,
    configDirectory: values.config ?? join(directory, 'config'),
    id,
    members: members.size > 0 ? [...members.keys()] : [id],
    geometry: values.size === undefined ? undefined : parseSize(values.size),
  });
  const [tls, peerTls] = await Promise.all([values.tls, values['peer-tls']].map(readTlsFiles));
  return await serve({ id, members, replica, listen, tls, peerTls });
}

function parseMember(text: string): [string, PeerAddress] {
  const match = /^([^=]+)=(.+):(\d+)$/.exec(text);
  const port = parsePort(match?.[3], 'member');
  if (!match || port === undefined) throw new UsageError(`--member ${text} is not NAME=HOST:PORT`);
  return [match[1]!, { host: match[2]!, port }];
}

function parseSize(size: string): Geometry {
  const bytes = parseQuantity(size);
  const geometry = bytes.ok ? geometryOf(Number(bytes.value)) : bytes;
  if (!geometry.ok) throw new UsageError(`--size: ${geometry.error}`);
  return geometry.value;
}

function listenOptions(values: { socket?: string; port?: string; host?: string }): ListenOptions {
  const port = parsePort(values.port, 'port');
  if ((values.socket === undefined) === (port === undefined)) throw new UsageError('give either --socket or --port');
  return values.socket === undefined ? { port: port!, host: values.host ?? '127.0.0.1' } : { path: values.socket };
}

interface Serving {
  readonly id: string;
  /** Empty for a volume with one replica. */
  readonly members: ReadonlyMap<string, PeerAddress>;
  readonly replica: LocalReplica;
  readonly listen: ListenOptions;
  readonly tls: TlsFiles | undefined;
  readonly peerTls: TlsFiles | undefined;
}

async function serve({ id, members, replica, listen, tls, peerTls }: Serving): Promise<number> {
  const { promise: ended, resolve: end } = Promise.withResolvers<number>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => end(0));
  const { identity } = replica;
  const log = createStderrLogger(`union-csi block-serve ${id}`, () => false);
  const disk = await openFiles(replica.files, log);
  const own = members.get(id);
  const listener = own && new PeerListener({ listen: { ...own }, tls: peerTls, log });
  await listener?.listen();
  const addressOf = (member: string) => members.get(member);
  const network = listener && new PeerNetwork({ id, volume: identity.volume, addressOf, listener, tls: peerTls, log });
  const around = { disk, config: replica.register, network, log, onStop: () => end(1) };
  const host = new ReplicaHost({ id, identity, minInSync: 1 }, around);
  host.start();
  const device = host.deviceOf(identity.volume);
  const exports = [new NbdExport(new ByteDevice(device), { isServing: () => host.isServing })];
  const server = new NbdServer({ listen, exports, tls, log });
  // Of several replicas one is chosen to serve; a single one is waited for.
  if (network === undefined) await Promise.race([ended, host.whenServing()]);
  const listening = network !== undefined || host.isServing;
  if (listening) process.stdout.write(`serving ${identity.volume} on ${await server.listen()}\n`);
  const code = await ended;
  if (listening) await server.close();
  if (code === 0) await host.request({ kind: 'flush' });
  await host.close();
  await listener?.close();
  if (code !== 0) throw new UnionError('UNAVAILABLE', 'the replica has stopped; see the lines above');
  return code;
}

async function openFiles(directory: string, log: Logger): Promise<ReplicaFiles> {
  return await ReplicaFiles.open(directory, ({ kind, area }, error) =>
    log.error('block.disk', { operation: kind, area, error: String(error) }),
  );
}
