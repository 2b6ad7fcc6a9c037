/**
 * `union-csi block-serve`: one replicated volume's replica on this machine, served over NBD; needs no cluster. Makes the volume
 * when there is none. Flushes and ends with SIGTERM.
 */
import { randomUUID } from 'node:crypto';
import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import type { ListenOptions } from 'node:net';
import { join } from 'node:path';
import { UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { parseQuantity } from '../base/units.ts';
import { geometryOf } from '../block/areas.ts';
import type { Identity } from '../block/recovery.ts';
import { toEpoch } from '../block/units.ts';
import { ConfigRegister } from '../host/block/config-register.ts';
import { createReplica, ReplicaFiles } from '../host/block/replica-files.ts';
import { ReplicaHost } from '../host/block/replica-host.ts';
import { ByteDevice } from '../host/nbd/byte-device.ts';
import { NbdExport } from '../host/nbd/exports.ts';
import type { TlsFiles } from '../host/nbd/handshake.ts';
import { NbdServer } from '../host/nbd/server.ts';
import { parseFlags, parsePort, UsageError } from './flags.ts';
import { createStderrLogger } from './stderr-logger.ts';

const help = `usage: union-csi block-serve [FLAG…] DIRECTORY

Serves the block volume in DIRECTORY over NBD, on a unix socket or a TCP port.
  --size SIZE       make a volume of this size if there is none: 10Gi
  --socket PATH     unix socket to listen on
  --port PORT       TCP port to listen on; 0 chooses one
  --host ADDRESS    with --port; default 127.0.0.1
  --tls DIRECTORY   serve with TLS only, to clients whose certificate is of the authority:
                    ca-cert.pem, server-cert.pem and server-key.pem lie there

Prints one line with its address when it serves. Ends with SIGTERM, after a flush.
`;

const VOLUME_FILE = 'volume.json';
const OWN_ID = 'local';

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags({
    args: argv,
    allowPositionals: true,
    options: {
      size: { type: 'string' },
      socket: { type: 'string' },
      port: { type: 'string' },
      host: { type: 'string' },
      tls: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const [directory, ...more] = positionals;
  if (directory === undefined || more.length > 0) throw new UsageError('give one directory; see --help');
  const listen = listenOptions(values);
  const tls = values.tls === undefined ? undefined : await readTls(values.tls);
  const log = createStderrLogger('union-csi block-serve', () => false);
  const identity = await openVolume(directory, values.size);
  return await serve({ directory, identity, listen, tls, log });
}

function listenOptions(values: { socket?: string; port?: string; host?: string }): ListenOptions {
  const port = parsePort(values.port, 'port');
  if ((values.socket === undefined) === (port === undefined)) throw new UsageError('give either --socket or --port');
  return values.socket === undefined ? { port: port!, host: values.host ?? '127.0.0.1' } : { path: values.socket };
}

async function readTls(directory: string): Promise<TlsFiles> {
  const [ca, cert, key] = await Promise.all(
    ['ca-cert.pem', 'server-cert.pem', 'server-key.pem'].map((name) => readFile(join(directory, name), 'utf8')),
  );
  return { ca: ca!, cert: cert!, key: key! };
}

/** The volume's identity is written last: until then there is no volume. */
async function openVolume(directory: string, size: string | undefined): Promise<Identity> {
  const path = join(directory, VOLUME_FILE);
  const exists = await access(path).then(
    () => true,
    () => false,
  );
  if (exists) return JSON.parse(await readFile(path, 'utf8'));
  if (size === undefined) throw new UsageError(`there is no volume in ${directory}; give --size to make one`);
  const bytes = parseQuantity(size);
  const geometry = bytes.ok ? geometryOf(Number(bytes.value)) : bytes;
  if (!geometry.ok) throw new UsageError(`--size: ${geometry.error}`);
  const uuid = () => randomUUID().replaceAll('-', '');
  const identity: Identity = { volume: uuid(), replica: uuid(), geometry: geometry.value };
  await mkdir(join(directory, 'config'), { recursive: true });
  await createReplica(join(directory, 'replica'), identity);
  const members = [OWN_ID];
  await new ConfigRegister(join(directory, 'config')).replace({
    version: 1,
    epoch: toEpoch(0),
    primary: OWN_ID,
    inSync: members,
    members,
  });
  await writeFile(path, `${JSON.stringify(identity)}\n`, { flush: true });
  return identity;
}

interface Serving {
  readonly directory: string;
  readonly identity: Identity;
  readonly listen: ListenOptions;
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
}

async function serve({ directory, identity, listen, tls, log }: Serving): Promise<number> {
  const { promise: ended, resolve: end } = Promise.withResolvers<number>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => end(0));
  const disk = await ReplicaFiles.open(join(directory, 'replica'), (operation, error) =>
    log.error('block.disk', { operation: operation.kind, area: operation.area, error: String(error) }),
  );
  const config = new ConfigRegister(join(directory, 'config'));
  const around = { disk, config, network: undefined, log, onStop: () => end(1) };
  const host = new ReplicaHost({ id: OWN_ID, identity, minInSync: 1 }, around);
  host.start();
  const device = { name: identity.volume, blocks: identity.geometry.blocks, request: host.request.bind(host) };
  const server = new NbdServer({ listen, exports: [new NbdExport(new ByteDevice(device))], tls, log });
  const code = await Promise.race([ended, host.whenServing().then(() => (host.state === 'serving' ? undefined : 1))]);
  if (code === undefined) process.stdout.write(`serving ${identity.volume} on ${await server.listen()}\n`);
  const result = code ?? (await ended);
  await server.close();
  if (result === 0) await host.request({ kind: 'flush' });
  await host.close();
  if (result !== 0) throw new UnionError('UNAVAILABLE', 'the replica has stopped; see the lines above');
  return result;
}
