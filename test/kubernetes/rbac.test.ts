/**
 * The rights that deploy/ gives are those that are used: the API server's own record of all that the tests before made us
 * ask for, against the rules. To be run last; a rule that nothing used is to be tested, or to go.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { KubeObject } from '../../src/protocol/objects.ts';
import { list } from './support/kubectl.ts';
import { clusterDir } from './support/nodes.ts';

interface Asked {
  readonly user: { readonly username: string };
  readonly userAgent: string;
  readonly verb: string;
  readonly objectRef?: {
    readonly apiGroup?: string;
    readonly resource: string;
    readonly subresource?: string;
    readonly namespace?: string;
    readonly name?: string;
  };
  readonly responseStatus?: { readonly code: number };
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

interface Role extends KubeObject {
  readonly rules: readonly Rule[];
}

/** Asked for by admission as it checks owner references, not by a request of its own: run.sh switches that on. */
const CHECKED_BY_ADMISSION = ['unionvolumes/finalizers', 'unionattachments/finalizers'];

interface Holder {
  /** Who asks, of those that share the account. */
  readonly agent: string;
  readonly account: string;
  /** Rights that no test makes it use, and why it has them. */
  readonly spare?: readonly string[];
}

const ours = (account: string): Holder => ({ agent: 'union-csi', account });
const sidecar = (agent: string, ...spare: readonly string[]): Holder => ({
  agent,
  account: 'union-csi-controller',
  spare,
});

const ROLES: Readonly<Record<string, Holder>> = {
  'clusterrole/union-csi-controller': ours('union-csi-controller'),
  'clusterrole/union-csi-node': ours('union-csi-node'),
  'clusterrole/union-csi-block-controller': ours('union-csi-block-controller'),
  'clusterrole/union-csi-block-node': ours('union-csi-block-node'),
  'role/union-csi-controller': ours('union-csi-controller'),
  'role/union-csi-block-controller': ours('union-csi-block-controller'),
  // It takes back the choice of a node that turns out to have no room: here, published capacity keeps pods from such a node.
  'clusterrole/union-csi-provisioner': sidecar('csi-provisioner', 'update core/persistentvolumeclaims'),
  'clusterrole/union-csi-attacher': sidecar('csi-attacher'),
  'clusterrole/union-csi-resizer': sidecar('csi-resizer'),
  'role/union-csi-sidecars': sidecar('csi-provisioner'),
};

describe('the rights of the driver', () => {
  let asked: readonly Asked[];

  before(() => {
    const lines = readFileSync(join(clusterDir(), 'logs/audit.log'), 'utf8').split('\n');
    asked = lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Asked);
  });

  it('suffice', () => {
    const refused = asked.filter(({ annotations }) => annotations?.['authorization.k8s.io/decision'] === 'forbid');
    expect([
      ...new Set(refused.map((event) => `${event.userAgent}: ${event.verb} ${resourceOf(event)}`)),
    ]).to.deep.equal([]);
  });

  const unused = ({ agent, account, spare = [] }: Holder, rules: readonly Rule[]): readonly string[] => {
    const isTheirs = ({ user, userAgent }: Asked) =>
      userAgent.split('/')[0] === agent && user.username === `system:serviceaccount:union-csi:${account}`;
    const used = new Set(asked.filter(isTheirs).map((event) => `${event.verb} ${resourceOf(event)}`));
    // Sidecars watch from the first object on, and list, or read one, where an API server cannot do that.
    const isFallback = (right: string) =>
      agent !== 'union-csi' && /^(get|list) /.test(right) && used.has(right.replace(/^\w+/, 'watch'));
    const granted = rules.flatMap(rightsOf);
    expect(granted, 'spare ones').to.include.members(spare);
    return granted.filter((right) => !used.has(right) && !isFallback(right) && !spare.includes(right));
  };

  for (const [role, holder] of Object.entries(ROLES)) {
    it(`are all used: ${role}`, async () => {
      const [kind, name] = role.split('/') as [string, string];
      const [found] = await list<Role>(kind, name, '--namespace', 'union-csi');
      expect(unused(holder, found!.rules)).to.deep.equal([]);
      // One more would be told of.
      const more = { apiGroups: [''], resources: ['configmaps'], verbs: ['get'] };
      expect(unused(holder, [...found!.rules, more])).to.deep.equal(['get core/configmaps']);
    });
  }

  it('are given by nothing else', async () => {
    const found = [...(await list<Role>('clusterroles,roles', '--all-namespaces'))];
    const names = found.filter(({ metadata }) => metadata.name.startsWith('union-csi'));
    const known = names.map(({ kind, metadata }) => `${kind.toLowerCase()}/${metadata.name}`);
    expect(known.sort()).to.deep.equal(Object.keys(ROLES).sort());
  });
});

function rightsOf({ apiGroups, resources, verbs }: Rule): readonly string[] {
  const asked = resources.filter((resource) => !CHECKED_BY_ADMISSION.includes(resource));
  return apiGroups.flatMap((group) =>
    asked.flatMap((resource) => verbs.map((verb) => `${verb} ${group === '' ? 'core' : group}/${resource}`)),
  );
}

function resourceOf({ objectRef }: Asked): string {
  const { apiGroup, resource = '', subresource } = objectRef ?? {};
  return `${apiGroup ?? 'core'}/${resource}${subresource === undefined ? '' : `/${subresource}`}`;
}
