/** What accounts may do by the cluster's rules, what they asked for by the API server's own record, and what it answers them now. */
import { readFileSync } from 'node:fs';
import * as https from 'node:https';
import { join } from 'node:path';
import { type ClusterAccess, loadAccess } from '../../../src/kubernetes/kubeconfig.ts';
import type { KubeObject } from '../../../src/protocol/objects.ts';
import { DRIVER_NAMESPACE } from '../../../src/protocol/resources.ts';
import { kubectl, list } from './kubectl.ts';
import { clusterDir } from './nodes.ts';

export interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

export interface Role extends KubeObject {
  readonly rules: readonly Rule[];
}

interface Binding extends KubeObject {
  readonly roleRef: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly { readonly kind: string; readonly name: string; readonly namespace?: string }[];
}

/** The least that can be granted: one verb on one resource, of one name where the rule says names. */
export interface Right {
  readonly verb: string;
  /** As the API server calls it when it refuses: `pods`, `unionvolumes/status`. */
  readonly resource: string;
  /** A rule that grants this and nothing else. */
  readonly rule: Rule;
  /** `get core/pods`, `update coordination.k8s.io/leases union-csi-dev`. */
  readonly text: string;
}

/** A role, and the accounts of the driver's namespace that have it. */
export interface Grant {
  readonly role: Role;
  readonly accounts: readonly string[];
}

/** All that the accounts of our namespace are given by anyone, and our roles that nobody has. */
export async function grants(): Promise<readonly Grant[]> {
  const roles = await list<Role>('clusterroles,roles', '--all-namespaces');
  const bindings = await list<Binding>('clusterrolebindings,rolebindings', '--all-namespaces');
  const accountsOf = (role: Role) => {
    const theirs = bindings.filter(
      ({ roleRef, metadata }) =>
        roleRef.kind === role.kind &&
        roleRef.name === role.metadata.name &&
        (role.kind === 'ClusterRole' || metadata.namespace === role.metadata.namespace),
    );
    const subjects = theirs.flatMap(({ subjects = [] }) => subjects);
    return subjects.filter(({ namespace }) => namespace === DRIVER_NAMESPACE).map(({ name }) => name);
  };
  const all = roles.map((role) => ({ role, accounts: accountsOf(role) }));
  return all.filter(({ role, accounts }) => accounts.length > 0 || role.metadata.name.startsWith(DRIVER_NAMESPACE));
}

export function rightsOf(rules: readonly Rule[]): readonly Right[] {
  return rules.flatMap(({ apiGroups, resources, verbs, resourceNames }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) =>
        verbs.flatMap((verb) =>
          resourceNames === undefined
            ? right(group, resource, verb)
            : resourceNames.map((name) => right(group, resource, verb, name)),
        ),
      ),
    ),
  );
}

function right(group: string, resource: string, verb: string, name?: string): Right {
  const rule = { apiGroups: [group], resources: [resource], verbs: [verb] };
  const text = `${verb} ${group === '' ? 'core' : group}/${resource}`;
  if (name === undefined) return { verb, resource, rule, text };
  return { verb, resource, rule: { ...rule, resourceNames: [name] }, text: `${text} ${name}` };
}

/** A request as the API server's audit log has it. */
export interface Asked {
  readonly user: { readonly username: string };
  readonly userAgent: string;
  readonly verb: string;
  readonly requestURI: string;
  readonly objectRef?: {
    readonly apiGroup?: string;
    readonly resource?: string;
    readonly subresource?: string;
    readonly name?: string;
  };
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Of all accounts of our namespace, from the beginning on. */
export function askedSoFar(): readonly Asked[] {
  const lines = readFileSync(join(clusterDir(), 'logs/audit.log'), 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Asked);
}

/** The rights that would do for a request, by their texts. */
export function neededFor({ verb, objectRef = {} }: Asked): readonly string[] {
  const { apiGroup = 'core', resource = '', subresource, name } = objectRef;
  const text = `${verb} ${apiGroup}/${resource}${subresource === undefined ? '' : `/${subresource}`}`;
  return name === undefined ? [text] : [text, `${text} ${name}`];
}

export function userOf(account: string): string {
  return `system:serviceaccount:${DRIVER_NAMESPACE}:${account}`;
}

export interface ApiRequest {
  readonly method: string;
  readonly uri: string;
  readonly body?: object;
}

export interface Answer {
  readonly status: number;
  /** Why, of what was refused. */
  readonly message: string;
}

/** Asks the API server for anything; of a watch, only how it begins. */
export type Asker = (request: ApiRequest) => Promise<Answer>;

export function administrator(): Asker {
  return askerOf(loadAccess(process.env.KUBECONFIG));
}

export async function asAccount(account: string): Promise<Asker> {
  const token = await kubectl('create', 'token', '--namespace', DRIVER_NAMESPACE, account);
  return askerOf({ ...loadAccess(process.env.KUBECONFIG), authorization: async () => `Bearer ${token.trim()}` });
}

function askerOf({ server, tls, authorization }: ClusterAccess): Asker {
  return async ({ method, uri, body }) => {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const headers = { authorization: await authorization(), ...(body && { 'content-type': type }) };
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const sent = https.request(server + uri, { method, headers, ca: tls.ca }, (response) => {
      const status = response.statusCode ?? 0;
      let text = '';
      const answered = () => resolve({ status, message: status === 403 ? JSON.parse(text).message : text });
      if (status < 300) {
        answered();
        response.destroy();
      } else {
        response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
        response.once('end', answered).once('error', reject);
      }
    });
    sent.once('error', reject).end(body && JSON.stringify(body));
    return await promise;
  };
}
