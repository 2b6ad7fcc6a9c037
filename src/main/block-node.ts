/**
 * `union-csi block-node`: a node's part in block volumes. It serves the replicas in its pools, to each other and to clients, and is
 * the CSI node service of block.union.csi.dev. Killed and started again at any time, it goes on from its files; attached volumes
 * are served by processes of their own, which wait for a replica to be there again.
 */
import { systemClock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { parseQuantity } from '../base/units.ts';
import { isInSyncOn } from '../block/driver/volume-status.ts';
import { formatAddress, parseAddress } from '../controllers/block/addresses.ts';
import { keepPools, type PoolPlace } from '../controllers/block/node-pools.ts';
import { exportName } from '../controllers/block/node-replica.ts';
import { NodeReplicas } from '../controllers/block/node-replicas.ts';
import { Attachments } from '../csi/block/attachments.ts';
import { createBlockNodeService } from '../csi/block/node.ts';
import { BLOCK_PLUGIN } from '../csi/identity.ts';
import { implement } from '../csi/server.ts';
import type { AttachConfig } from '../host/block/attached-volume.ts';
import { PeerListener } from '../host/block/peer-listener.ts';
import { allowLargeBuffers } from '../host/buffers.ts';
import type { NbdExport } from '../host/nbd/exports.ts';
import { NbdServer } from '../host/nbd/server.ts';
import { readTlsFiles } from '../host/tls.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import { createInformer, type Informer } from '../kubernetes/informer.ts';
import { BLOCK_POOL, BLOCK_VOLUME } from '../kubernetes/kinds.ts';
import { createRepository } from '../kubernetes/repository.ts';
import { type BlockPool, type BlockVolume, blockPoolName, membersOf } from '../protocol/block-resources.ts';
import { loadCsi } from '../protocol/proto.ts';
import { type AttachSide, startAttachSide } from './attach-side.ts';
import { DAEMON_FLAGS, runDaemon, serveNodePlugin } from './daemon.ts';
import { parseFlags, parsePort, required, UsageError } from './flags.ts';
import { type Health, startHealth } from './health.ts';
import { createLogger } from './logging.ts';
import { checkMachine } from './mount-checks.ts';

const HELP = `usage: union-csi block-node --node-name NAME --csi-endpoint unix:///PATH --pool NAME=DIRECTORY [FLAGS]

  --node-name NAME        the Kubernetes node this runs on
  --csi-endpoint SOCKET   where to serve CSI, below the kubelet directory
  --pool NAME=DIRECTORY[=SIZE]
                          keep replicas of a pool in DIRECTORY, at most SIZE of them; once for each pool
  --tls DIRECTORY         speak TLS only, to replicas and clients of this authority: ca-cert.pem, server-cert.pem and
                          server-key.pem lie there; the common name of each node's certificate is the node's name
  --host ADDRESS          where other nodes reach this one; default 127.0.0.1
  --peer-port PORT        where other replicas connect, default 9841
  --export-port PORT      where clients of volumes connect, default 9842; 0 chooses one, as for --peer-port
  --kubelet-dir DIR       kubelet's directory, default /var/lib/kubelet
  --kubeconfig FILE       how to reach the cluster; without it, the service account of the pod it runs in
  --metrics-port PORT     serve /healthz, /readyz and /metrics
`;

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags(HELP, {
    args: argv,
    options: {
      'node-name': { type: 'string' },
      pool: { type: 'string', multiple: true },
      tls: { type: 'string' },
      host: { type: 'string', default: '127.0.0.1' },
      'peer-port': { type: 'string', default: '9841' },
      'export-port': { type: 'string', default: '9842' },
      'kubelet-dir': { type: 'string', default: '/var/lib/kubelet' },
      ...DAEMON_FLAGS,
    },
  });
  const nodeName = required(values['node-name'], 'node-name');
  const options = {
    nodeName,
    endpoint: required(values['csi-endpoint'], 'csi-endpoint'),
    pools: (values.pool ?? []).map(parsePool),
    tls: values.tls,
    host: values.host,
    peerPort: parsePort(values['peer-port'], 'peer-port')!,
    exportPort: parsePort(values['export-port'], 'export-port')!,
    kubeletDir: values['kubelet-dir'],
    metricsPort: parsePort(values['metrics-port'], 'metrics-port'),
    log: createLogger('block-node').child({ node: nodeName }),
  };
  allowLargeBuffers();
  checkMachine();
  const { kubeletDir, log } = options;
  const side = startAttachSide({ side: 'node', kubeletDir, log });
  const daemon = { kubeconfig: values.kubeconfig, log, beforeEnd: side.end };
  return await runDaemon(daemon, async (client, stop) => {
    await serve(client, { ...options, side }, stop.signal);
    return 0;
  });
}

interface ServiceOptions {
  readonly nodeName: string;
  readonly endpoint: string;
  readonly pools: readonly PoolPlace[];
  readonly tls: string | undefined;
  readonly host: string;
  readonly peerPort: number;
  readonly exportPort: number;
  readonly kubeletDir: string;
  readonly side: AttachSide;
  readonly metricsPort: number | undefined;
  readonly log: Logger;
}

function parsePool(text: string): PoolPlace {
  const [name = '', directory = '', size, ...rest] = text.split('=');
  const limit = size === undefined ? undefined : parseQuantity(size);
  if (name === '' || !directory.startsWith('/') || rest.length > 0 || limit?.ok === false) {
    throw new UsageError(`--pool ${text} is not NAME=/DIRECTORY or NAME=/DIRECTORY=SIZE`);
  }
  return { name, directory, limitBytes: limit?.value };
}

/** Resolves after the signal, when everything has stopped. */
async function serve(client: KubeClient, options: ServiceOptions, signal: AbortSignal): Promise<void> {
  const { nodeName: node, pools, host, peerPort, exportPort, metricsPort, log } = options;
  const volumes = createRepository(client, BLOCK_VOLUME);
  const volumeChanges = createInformer({ client, kind: BLOCK_VOLUME, log });
  const poolChanges = createInformer({ client, kind: BLOCK_POOL, log });
  const isReady = () => volumeChanges.hasSynced && poolChanges.hasSynced;
  // An update of all nodes waits for it: it is not to take the last replica in sync.
  const isInSync = () => isReady() && volumeChanges.list().every((volume) => isInSyncOn(volume, node));
  const probed = { isReady: isInSync, log };
  const health = metricsPort === undefined ? undefined : await startHealth({ port: metricsPort, ...probed }, signal);
  const exports: NbdExport[] = [];
  const tls = await readTlsFiles(options.tls);
  const listener = new PeerListener({ listen: { host: listenHost(host), port: peerPort }, tls, log });
  const nbd = new NbdServer({ listen: { host: listenHost(host), port: exportPort }, exports, tls, log });
  const peerAddress = formatAddress({ host, port: await listener.listen() });
  const exportAddress = formatAddress({ host, port: parseAddress(await nbd.listen())!.port });
  const blockPools = createRepository(client, BLOCK_POOL);
  const replicas = new NodeReplicas({
    ...{ node, volumes, blockPools, volumeChanges, poolChanges, listener, exports, log, tls },
    pools: new Map(pools.map(({ name, directory }) => [name, directory])),
  });
  const addresses = { peerAddress, exportAddress };
  const working = [
    volumeChanges.start(signal),
    poolChanges.start(signal),
    keepPools({ node, pools, addresses, repository: blockPools, clock: systemClock, log }, signal),
    replicas.run(signal),
  ];
  const stopped = await serveCsi({ options, client, volumeChanges, poolChanges, isReady, health }, signal);
  await Promise.all([...working, ...stopped, health?.stopped]);
  await nbd.close();
  await listener.close();
}

/** On Kubernetes nodes are reached by addresses that their network gives them; only a local one is listened on alone. */
function listenHost(host: string): string {
  return host === '127.0.0.1' ? host : '::';
}

interface CsiParts {
  readonly options: ServiceOptions;
  readonly client: KubeClient;
  readonly volumeChanges: Informer<BlockVolume>;
  readonly poolChanges: Informer<BlockPool>;
  readonly isReady: () => boolean;
  readonly health: Health | undefined;
}

async function serveCsi(parts: CsiParts, signal: AbortSignal): Promise<readonly Promise<void>[]> {
  const { options, client, volumeChanges, poolChanges, isReady, health } = parts;
  const { nodeName, endpoint, kubeletDir, side, log } = options;
  const attachments = new Attachments({ directory: side.volumes, server: side.server, clock: systemClock });
  const { tls } = options;
  const configOf = (volume: BlockVolume) => ({ ...attachConfig(volume, nodeName, poolChanges), ...(tls && { tls }) });
  const refresh = () =>
    attachments.refresh((volumeId) => {
      const volume = volumeChanges.get(volumeId);
      return volume && configOf(volume).addresses;
    });
  poolChanges.onChange(refresh);
  volumeChanges.onChange(refresh);
  const volumes = createRepository(client, BLOCK_VOLUME);
  const handlers = createBlockNodeService({ nodeName, volumes, attachments, configOf, clock: systemClock });
  const service = implement(loadCsi().Node.service, handlers);
  return await serveNodePlugin({ plugin: BLOCK_PLUGIN, service, endpoint, kubeletDir, isReady, health, log }, signal);
}

/** What serves a volume on this node: its replicas, the primary first. */
function attachConfig(volume: BlockVolume, node: string, pools: Informer<BlockPool>): AttachConfig {
  const { metadata, spec, status } = volume;
  const primary = status?.config?.primary;
  const members = [...membersOf(volume)].sort((a, b) => Number(b === primary) - Number(a === primary));
  const addresses = members.flatMap((node) => {
    const address = parseAddress(pools.get(blockPoolName(spec.pool, node))?.status?.exportAddress);
    return address === undefined ? [] : [{ node, ...address }];
  });
  return {
    exportName: exportName(metadata.name, node),
    sizeBytes: Number(status?.capacityBytes ?? spec.capacityBytes),
    addresses,
  };
}
