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

/** Those of our own program, called as the accounts that have them. What the sidecars call is theirs, and on paths that no test of ours takes. */
const ROLES = ['controller', 'node', 'block-controller', 'block-node'].map((name) => `clusterrole/union-csi-${name}`);
const LEASES = ['controller', 'block-controller'].map((name) => `role/union-csi-${name}`);
const OUR_AGENT = 'union-csi';

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

  const unused = (account: string, rules: readonly Rule[]): readonly string[] => {
    const isOurs = ({ user, userAgent }: Asked) =>
      userAgent === OUR_AGENT && user.username === `system:serviceaccount:union-csi:${account}`;
    const ours = asked.filter(isOurs);
    const used = new Set(ours.map((event) => `${event.verb} ${resourceOf(event)}`));
    return rules.flatMap(granted).filter((right) => !used.has(right));
  };

  for (const role of [...ROLES, ...LEASES]) {
    it(`are all used: ${role}`, async () => {
      const [kind, name] = role.split('/') as [string, string];
      const [found] = await list<Role>(kind, name, '--namespace', 'union-csi');
      expect(unused(name, found!.rules)).to.deep.equal([]);
      // One more would be told of.
      const more = { apiGroups: [''], resources: ['configmaps'], verbs: ['get'] };
      expect(unused(name, [...found!.rules, more])).to.deep.equal(['get core/configmaps']);
    });
  }
});

function granted({ apiGroups, resources, verbs }: Rule): readonly string[] {
  const asked = resources.filter((resource) => !CHECKED_BY_ADMISSION.includes(resource));
  return apiGroups.flatMap((group) =>
    asked.flatMap((resource) => verbs.map((verb) => `${verb} ${group === '' ? 'core' : group}/${resource}`)),
  );
}

function resourceOf({ objectRef }: Asked): string {
  const { apiGroup, resource = '', subresource } = objectRef ?? {};
  return `${apiGroup ?? 'core'}/${resource}${subresource === undefined ? '' : `/${subresource}`}`;
}
