/** The cluster as `kubectl union` reads it: unions by their claims, and what their servers say. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { createKubeClient, type KubeClient } from '../../kubernetes/client.ts';
import {
  EVENT,
  type Kind,
  PERSISTENT_VOLUME,
  PERSISTENT_VOLUME_CLAIM,
  POD,
  STORAGE_CLASS,
  UNION_ATTACHMENT,
  UNION_VOLUME,
} from '../../kubernetes/kinds.ts';
import { loadAccess } from '../../kubernetes/kubeconfig.ts';
import { createRepository } from '../../kubernetes/repository.ts';
import type { KubeObject } from '../../protocol/objects.ts';
import { DRIVER_NAME, type UnionAttachment, type UnionVolume } from '../../protocol/resources.ts';
import { parseUsage, SERVER_PORT, type UnionUsage } from '../../protocol/server-pages.ts';
import { UsageError } from '../flags.ts';

/** A command line, read. */
export interface Asked {
  readonly cluster: Cluster;
  /** After the command. */
  readonly words: readonly string[];
  readonly json: boolean;
  readonly everywhere: boolean;
  /** Flags of add-branch. */
  readonly branch: Readonly<Record<'storageClassName' | 'claim' | 'size' | 'mode' | 'reserve', string | undefined>>;
  readonly signal: AbortSignal;
}

export interface Cluster {
  readonly namespace: string;
  readonly client: KubeClient;
  readonly volumes: ReturnType<typeof createRepository<UnionVolume>>;
  list<T extends KubeObject>(kind: Kind<T>, namespace: string | undefined, signal: AbortSignal): Promise<readonly T[]>;
  close(): void;
}

export { EVENT, PERSISTENT_VOLUME_CLAIM, POD, STORAGE_CLASS };

export function openCluster(flags: {
  kubeconfig: string | undefined;
  context: string | undefined;
  namespace: string | undefined;
}): Cluster {
  const access = loadAccess(flags.kubeconfig ?? defaultKubeconfig(), flags.context);
  const client = createKubeClient(access);
  return {
    namespace: flags.namespace ?? access.namespace ?? 'default',
    client,
    volumes: createRepository(client, UNION_VOLUME),
    list: (kind, namespace, signal) => createRepository(client, kind).list({ namespace }, signal),
    close: () => client.close(),
  };
}

/** Of several files in $KUBECONFIG the first that is there. */
function defaultKubeconfig(): string | undefined {
  const named = process.env.KUBECONFIG?.split(delimiter).filter((path) => path !== '') ?? [];
  return [...named, join(homedir(), '.kube/config')].find((path) => existsSync(path));
}

/** A union, where it is attached, and what its servers say of it. */
export interface Union {
  readonly volume: UnionVolume;
  readonly attachments: readonly UnionAttachment[];
  /** Absent while nobody uses it, or when no server could be asked. */
  readonly usage?: UnionUsage;
  /** Why a server that runs could not be asked. */
  readonly silence?: string;
}

/** The claim that a command is about; `extra` words may follow it. */
export function theClaim({ words }: Asked, { extra }: { extra: boolean } = { extra: false }): string {
  const [claim, next] = words;
  if (claim === undefined) throw new UsageError('name the claim; see --help');
  if (next !== undefined && !extra) throw new UsageError(`unexpected argument ${next}; see --help`);
  return claim;
}

/** Those of one claim, of one namespace, or all. */
export async function findUnions(asked: Asked, claim: string | undefined): Promise<readonly Union[]> {
  const { cluster, everywhere, signal } = asked;
  const [volumes, attachments] = await Promise.all([
    cluster.volumes.list({}, signal),
    cluster.list(UNION_ATTACHMENT, undefined, signal),
  ]);
  const wanted = volumes.filter(
    ({ spec, metadata }) =>
      (claim === undefined || spec.claim?.name === claim || metadata.name === claim) &&
      (everywhere || spec.claim === undefined || spec.claim.namespace === cluster.namespace),
  );
  wanted.sort((left, right) => (titleOf(left) < titleOf(right) ? -1 : 1));
  return await Promise.all(
    wanted.map(async (volume) => {
      const own = attachments.filter(({ spec }) => spec.volume === volume.metadata.name);
      return { volume, attachments: own, ...(await askServers(cluster.client, own, signal)) };
    }),
  );
}

/** The union of a claim; throws with what the claim is instead. */
export async function needUnion(asked: Asked, claim: string): Promise<Union> {
  const [union] = await findUnions(asked, claim);
  if (union) return union;
  const { cluster, signal } = asked;
  const claims = await cluster.list(PERSISTENT_VOLUME_CLAIM, cluster.namespace, signal);
  const found = claims.find(({ metadata }) => metadata.name === claim);
  const title = `claim "${cluster.namespace}/${claim}"`;
  if (!found) throw new Error(`${title} does not exist; name another, or its namespace with -n`);
  const volumes = await cluster.list(PERSISTENT_VOLUME, undefined, signal);
  const driver = volumes.find(({ metadata }) => metadata.name === found.spec?.volumeName)?.spec?.csi?.driver;
  if (driver === DRIVER_NAME) throw new Error(`the union of ${title} is gone; see kubectl describe pvc ${claim}`);
  throw new Error(`${title} has no union; kubectl union explain ${claim} tells more`);
}

export function titleOf({ spec, metadata }: UnionVolume): string {
  return spec.claim === undefined ? metadata.name : `${spec.claim.namespace}/${spec.claim.name}`;
}

async function askServers(
  client: KubeClient,
  attachments: readonly UnionAttachment[],
  signal: AbortSignal,
): Promise<Pick<Union, 'usage' | 'silence'>> {
  let silence: string | undefined;
  for (const attachment of attachments) {
    if (attachment.status?.phase !== 'Running') continue;
    try {
      const usage = parseUsage(await askServer(client, attachment, '/status', {}, signal));
      if (usage) return { usage };
      silence = 'its server is of another version';
    } catch (error) {
      silence = messageOf(error);
    }
  }
  return silence === undefined ? {} : { silence };
}

/** The JSON that a server pod answers. Throws what it, or the API server, says instead. */
export async function askServer(
  client: KubeClient,
  { status }: UnionAttachment,
  page: string,
  query: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<unknown> {
  const pod = status?.pod;
  if (pod === undefined) throw new Error('its server pod is not there yet');
  const path = `/api/v1/namespaces/${pod.namespace}/pods/${pod.name}:${SERVER_PORT}/proxy${page}`;
  const answer = await client.request({ method: 'GET', path, query }, signal);
  if (answer.status === 200) return answer.body;
  const { body } = answer;
  const message = typeof body === 'object' && body !== null && 'message' in body ? String(body.message) : String(body);
  throw new Error(`server pod ${pod.namespace}/${pod.name}: ${message.trim()}`);
}

export function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
