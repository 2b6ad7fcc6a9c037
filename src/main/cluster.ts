/** `union-csi cluster`: runs the embedded cluster until it is interrupted. */
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startCluster } from '../embedded/cluster.ts';
import { removeCluster } from '../embedded/remove-cluster.ts';
import { blockDriver, type DriverPlaces, unionDriver } from '../embedded/union-driver.ts';
import { parseFlags, parsePort, UsageError } from './flags.ts';
import { createStderrLogger } from './stderr-logger.ts';

const HELP = `usage: union-csi cluster [--dir DIR] [--nodes N] [--port P] [--block-engine]

Runs a small Kubernetes on this machine, with Union CSI in it. Needs root and /dev/fuse. Not for production.

  --dir DIR     keep everything in DIR, and go on from there the next time
                (default: a temporary directory, removed at the end)
  --nodes N     simulate N nodes (default 1, at most 16)
  --port P      port of the API server on 127.0.0.1 (default: a free one)
  --block-engine
                run block.union.csi.dev too: small replicated volumes, kept in the nodes' directories

Ctrl-C ends it: pods are stopped and everything is unmounted.
`;

const MAX_NODES = 16;

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags(HELP, {
    args: argv,
    options: {
      dir: { type: 'string' },
      nodes: { type: 'string' },
      port: { type: 'string' },
      'block-engine': { type: 'boolean' },
    },
  });
  const nodes = parseNodes(values.nodes ?? '1');
  const port = parsePort(values.port, 'port') ?? 0;
  const temporary = values.dir === undefined;
  const dir = resolve(values.dir ?? join(tmpdir(), 'union-csi-cluster'));
  // Whoever read our words may be gone when there is tidying up to do.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  // Before anything is there that would need tidying up.
  const interrupted = nextSignal();
  if (temporary) await removeCluster(dir);
  const drivers = (places: DriverPlaces) =>
    values['block-engine'] ? [unionDriver(places), blockDriver(places)] : [unionDriver(places)];
  const cluster = await startCluster({ dir, nodes, port, drivers, log: createStderrLogger('union-csi cluster') });
  process.stdout.write(
    `cluster of ${nodes} ${nodes === 1 ? 'node' : 'nodes'} at ${cluster.url}, in ${cluster.dir}\n` +
      `\n  export KUBECONFIG=${cluster.kubeconfig}\n  kubectl get nodes\n\nCtrl-C ends it.\n`,
  );
  await interrupted;
  process.stdout.write('ending: stopping pods, unmounting …\n');
  const problems = await cluster.close();
  for (const problem of problems) process.stderr.write(`union-csi cluster: ${problem}\n`);
  if (temporary) await removeCluster(dir);
  return problems.length === 0 ? 0 : 1;
}

function parseNodes(text: string): number {
  const nodes = Number(text);
  if (/^\d+$/.test(text) && nodes >= 1 && nodes <= MAX_NODES) return nodes;
  throw new UsageError(`--nodes ${text} is not a number from 1 to ${MAX_NODES}`);
}

/** Resolves at the first SIGINT, SIGTERM or SIGHUP; later ones change nothing: ending has begun. */
function nextSignal(): Promise<void> {
  return new Promise((done) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => done());
  });
}
