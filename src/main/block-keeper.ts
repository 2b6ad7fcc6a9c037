/**
 * `union-csi block-keeper`: keeps the block volumes that are attached to its node while block-node ends and starts again. Of the two
 * processes that serve a volume one runs in each of these containers, so that either can be replaced (attach-side.ts).
 */
import { once } from 'node:events';
import { startAttachSide } from './attach-side.ts';
import { parseFlags, parsePort } from './flags.ts';
import { startHealth } from './health.ts';
import { createLogger } from './logging.ts';

const HELP = `usage: union-csi block-keeper [FLAGS]

  --kubelet-dir DIR       kubelet's directory, default /var/lib/kubelet; of it, plugins/block.union.csi.dev is needed
  --metrics-port PORT     serve /healthz, /readyz and /metrics
`;

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags(HELP, {
    args: argv,
    options: {
      'kubelet-dir': { type: 'string', default: '/var/lib/kubelet' },
      'metrics-port': { type: 'string' },
    },
  });
  const log = createLogger('block-keeper');
  const port = parsePort(values['metrics-port'], 'metrics-port');
  const side = startAttachSide({ side: 'keeper', kubeletDir: values['kubelet-dir'], log });
  const stop = new AbortController();
  const end = () => void side.end().then(() => stop.abort());
  process.once('SIGTERM', end).once('SIGINT', end);
  const health = port === undefined ? undefined : await startHealth({ port, isReady: () => true, log }, stop.signal);
  log.info('keeper.started');
  if (!stop.signal.aborted) await once(stop.signal, 'abort');
  await health?.stopped;
  return 0;
}
