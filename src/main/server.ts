/**
 * `union-csi server`: serves one union, for as long as it is mounted. Runs as a pod for each volume and node; the node plugin
 * mounts and passes the FUSE descriptor (host/union-server.ts).
 *
 * SIGTERM means that the pod is to go. Applications come first: while the union is mounted it is only noted, and said to the
 * node plugin, which has this server make way when another pod's can go on.
 */
import { dirname, join } from 'node:path';
import { defaultReaders, isMounted, openUnion, type Union, unreadableState } from '../../fuse/index.ts';
import { type PreparedReaders, prepareReaders } from '../../fuse/reader-threads.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { DescriptorServer } from '../host/descriptor-server.ts';
import { FedBranches } from '../host/fed-branches.ts';
import { exitNow } from '../host/syscalls.ts';
import { type OpenOptions, type ServedUnion, UnionServer } from '../host/union-server.ts';
import { parseServerConfig, type ServerConfig } from '../protocol/server-config.ts';
import { parseFlags, parsePort, required, UsageError } from './flags.ts';
import { type Health, startHealth } from './health.ts';
import { REFUSE, refuse } from './server-refuse.ts';
import { createStderrLogger } from './stderr-logger.ts';
import { unionPages } from './union-pages.ts';

const help = `usage: union-csi server --socket PATH --config JSON

Serves one union of directories to the node plugin, which mounts it.
  --socket PATH       control socket to listen on
  --config JSON       {"volumeId", "branches": [{"id", "path", "mode", "minFreeSpaceBytes"}],
                      "policies": {"create", "action", "search"}, "passthrough", "cache"}
  --metrics-port PORT  serve /healthz, /readyz, /metrics, /status and /where
  --metrics-host HOST  on this address; default is every one in a pod, else 127.0.0.1
  --pod-uid UID        what who asks for /where must know

Ends with SIGTERM; while the union is mounted, only after the unmount.
`;

export async function run(argv: string[]): Promise<number> {
  if (argv[0] === REFUSE) return await refuse(Number(argv[1]));
  const { values } = parseFlags(help, {
    args: argv,
    options: {
      socket: { type: 'string' },
      config: { type: 'string' },
      'metrics-port': { type: 'string' },
      'metrics-host': { type: 'string' },
      'pod-uid': { type: 'string' },
    },
  });
  const path = required(values.socket, 'socket');
  const config = parseServerConfig(required(values.config, 'config'));
  if (!config.ok) throw new UsageError(`--config: ${config.error}`);

  const log = createStderrLogger('union-csi server', () => false, { volume: config.value.volumeId });
  const opened = new Set<Union>();
  const fed = new FedBranches(join(dirname(path), 'branches'));
  const readersFor = spareReaders();
  const union = new UnionServer({
    volumeId: config.value.volumeId,
    open: (options) => openBranches(withFed(config.value, fed), options, { opened, readersFor, log }),
    fed,
    unreadable: unreadableState,
    isMounted,
    die: () => exitNow(0),
    onHealth: () => socket.nudge(),
    log,
  });
  const terminated = signalled(); // before anyone can see the socket
  const socket = new DescriptorServer({ path, handle: (request, signal) => union.handle(request, signal), log });
  log.info('listening', { socket: path });
  const stop = new AbortController();
  const port = parsePort(values['metrics-port'], 'metrics-port');
  const health = tell(
    { port, host: values['metrics-host'], podUid: values['pod-uid'], volumeId: config.value.volumeId, opened, log },
    stop.signal,
  );
  const by = await terminated;
  if (union.serving) {
    log.warn('still mounted; ending after the unmount, or when another server can go on', { signal: by });
    union.isLeaving = true;
    socket.nudge();
    await union.idle();
  }
  await socket.close();
  await union.idle(); // a request that was under way may have begun to serve
  await union.close();
  stop.abort();
  await (await health)?.stopped;
  return 0;
}

interface Telling {
  readonly port: number | undefined;
  readonly host: string | undefined;
  readonly podUid: string | undefined;
  readonly volumeId: string;
  /** The union that is open now, if one is. */
  readonly opened: ReadonlySet<Union>;
  readonly log: Logger;
}

/** Health, metrics and pages; a union is served without them too. */
async function tell(
  { port, host, podUid, volumeId, opened, log }: Telling,
  signal: AbortSignal,
): Promise<Health | undefined> {
  if (port === undefined) return undefined;
  const current = () => [...opened].at(-1);
  try {
    const { registerUnionMetrics, timedOperations } = await import('./union-metrics.ts');
    const status = async () => {
      await current()?.refresh();
      return current()?.status();
    };
    const pages = unionPages({ volumeId, podUid, status });
    const metrics = (registry: Parameters<typeof registerUnionMetrics>[0]) =>
      registerUnionMetrics(registry, { volumeId, current });
    const moreMetrics = () => timedOperations(volumeId, current()?.measurements() ?? { operations: [] });
    const isReady = () => opened.size > 0;
    return await startHealth({ port, host, isReady, metrics, moreMetrics, pages, log }, signal);
  } catch (error) {
    log.error('cannot tell how the union is doing', { error: messageOf(error) });
    return undefined;
  }
}

/** Resolves at the first SIGTERM or SIGINT. */
function signalled(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.on('SIGTERM', resolve).on('SIGINT', resolve);
  });
}

function withFed(config: ServerConfig, fed: FedBranches): ServerConfig {
  const own = config.branches.map(({ id }) => id);
  return { ...config, branches: [...config.branches, ...fed.list().filter(({ id }) => !own.includes(id))] };
}

interface OpenContext {
  /** The unions that are open now. */
  readonly opened: Set<Union>;
  readonly readersFor: (count: number) => PreparedReaders | undefined;
  readonly log: Logger;
}

/** Threads that are there when they are needed, so that applications wait less for a server that takes over. For one session. */
function spareReaders(): (count: number) => PreparedReaders | undefined {
  let spare: PreparedReaders | undefined = prepareReaders(defaultReaders());
  return (count) => {
    const taken = spare?.length === count ? spare : undefined;
    if (taken !== undefined) spare = undefined;
    return taken;
  };
}

/**
 * The filesystem as UnionServer wants it, without a write to branches when read only. A session that ends while the union is
 * mounted has failed: this process ends, and another one takes over.
 */
function openBranches(
  config: ServerConfig,
  { readOnly, state }: OpenOptions,
  { opened, readersFor, log }: OpenContext,
): ServedUnion {
  const branches = readOnly ? config.branches.map((branch) => ({ ...branch, mode: 'RO' as const })) : config.branches;
  const union = openUnion({ ...config, branches, readOnly, ...(state !== undefined && { state }) });
  opened.add(union);
  return {
    serve: async (options) => {
      const session = await union.serve({ ...options, readers: readersFor(options.devices.length) });
      let makesWay = false;
      return {
        handOver: async () => {
          makesWay = true;
          await session.handOver();
        },
        ended: session.ended.then(() => {
          if (makesWay || !isMounted(options.devices[0]!)) return;
          log.error('serving ended while the union is mounted');
          exitNow(1);
        }),
      };
    },
    branches: async () => {
      await union.refresh();
      return union.status().branches;
    },
    addBranch: (branch) => union.addBranch(branch),
    close: async () => {
      opened.delete(union);
      await union.close();
    },
  };
}
