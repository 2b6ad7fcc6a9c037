/**
 * Where the API server is and who we are to it: from a kubeconfig, or from the service account of the pod we run in.
 * Read by ourselves because importing client-node costs a third of a second at every start; it is still what signs in
 * where a kubeconfig names an exec plugin or an identity provider.
 * Kubeconfig: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { messageOf, UnionError } from '../base/errors.ts';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface ClusterAccess {
  /** `https://host:port` and a path prefix, if any; no slash at the end. */
  readonly server: string;
  readonly tls: TlsAccess;
  /** Of the kubeconfig's context. */
  readonly namespace?: string;
  /** The Authorization header now: tokens rotate, so ask for every request. */
  authorization(): Promise<string | undefined>;
}

export interface TlsAccess {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly serverName?: string;
  readonly insecure?: boolean;
}

/** Reads the kubeconfig at `path`, or without one the pod's service account. Throws FAILED_PRECONDITION. */
export function loadAccess(path: string | undefined, context?: string): ClusterAccess {
  return path === undefined ? inClusterAccess(process.env) : kubeconfigAccess(path, context);
}

function inClusterAccess(env: NodeJS.ProcessEnv): ClusterAccess {
  const host = env.KUBERNETES_SERVICE_HOST;
  const port = env.KUBERNETES_SERVICE_PORT;
  if (host === undefined || port === undefined) {
    throw new UnionError('FAILED_PRECONDITION', 'not in a pod of a cluster; give --kubeconfig FILE');
  }
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    tls: { ca: readFileSync(`${SERVICE_ACCOUNT}/ca.crt`) },
    authorization: async () => bearer(readFileSync(`${SERVICE_ACCOUNT}/token`, 'utf8')),
  };
}

function kubeconfigAccess(path: string, chosen: string | undefined): ClusterAccess {
  const fail = (message: string) => new UnionError('FAILED_PRECONDITION', `kubeconfig ${path}: ${message}`);
  let config: Fields;
  try {
    config = fields(parse(readFileSync(path, 'utf8')));
  } catch (error) {
    // Behind the first line, which names line and column, the parser draws a picture of the place.
    const [message = ''] = messageOf(error).split('\n', 1);
    throw fail(message.replace(/:$/, ''));
  }
  const contextName = chosen ?? text(config['current-context']);
  if (contextName === undefined) throw fail('no current-context; choose one with kubectl config use-context');
  const context = named(config.contexts, contextName, 'context');
  if (context === undefined)
    throw fail(`${chosen === undefined ? 'current ' : ''}context "${contextName}" is not among its contexts`);
  const cluster = named(config.clusters, text(context.cluster), 'cluster');
  const server = text(cluster?.server);
  if (cluster === undefined || server === undefined)
    throw fail(`context "${contextName}" names no cluster with a server`);
  const user = named(config.users, text(context.user), 'user') ?? {};

  const namespace = text(context.namespace);
  const material = (holder: Fields, key: string): Buffer | undefined => {
    const inline = text(holder[`${key}-data`]);
    if (inline !== undefined) return Buffer.from(inline, 'base64');
    const file = text(holder[key]);
    return file === undefined ? undefined : readFileSync(resolve(dirname(path), file));
  };
  return {
    server: server.replace(/\/+$/, ''),
    tls: compact({
      ca: material(cluster, 'certificate-authority'),
      cert: material(user, 'client-certificate'),
      key: material(user, 'client-key'),
      serverName: text(cluster['tls-server-name']),
      insecure: cluster['insecure-skip-tls-verify'] === true ? true : undefined,
    }),
    authorization: authorizationOf(user, path, contextName),
    ...(namespace !== undefined && { namespace }),
  };
}

function authorizationOf(user: Fields, path: string, context: string): () => Promise<string | undefined> {
  const token = text(user.token);
  const tokenFile = text(user.tokenFile);
  if (tokenFile !== undefined) {
    const file = resolve(dirname(path), tokenFile);
    return async () => bearer(readFileSync(file, 'utf8'));
  }
  if (token !== undefined) return async () => bearer(token);
  if (user.exec === undefined && user['auth-provider'] === undefined) return async () => undefined;
  return async () => {
    const { KubeConfig } = await import('@kubernetes/client-node');
    const config = new KubeConfig();
    config.loadFromFile(path);
    config.setCurrentContext(context);
    const options: { headers: Record<string, string> } = { headers: {} };
    await config.applyToHTTPSOptions(options);
    return options.headers.Authorization;
  };
}

function bearer(token: string): string {
  return `Bearer ${token.trim()}`;
}

type Fields = Record<string, unknown>;

function fields(value: unknown): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new Error('not a YAML mapping');
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** The entry called `name` of a kubeconfig's list of `{name, [inner]: {…}}`. */
function named(list: unknown, name: string | undefined, inner: string): Fields | undefined {
  if (!Array.isArray(list)) return undefined;
  const entry = list.map(fields).find((candidate) => candidate.name === name);
  return entry === undefined ? undefined : fields(entry[inner] ?? {});
}

function compact(tls: { [Key in keyof TlsAccess]: TlsAccess[Key] | undefined }): TlsAccess {
  return Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined)) as TlsAccess;
}
