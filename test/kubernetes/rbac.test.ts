/**
 * The rights that deploy/ gives are those that are used, by the API server's own record of all that the tests before made us ask
 * for; and each is needed, by what it answers to the same requests once a rule has been taken away. To be run last; a right that
 * nothing used is to be tested, or to go, and so is one that is given twice.
 */
import { expect } from 'chai';
import { DRIVER_NAMESPACE } from '../../src/protocol/resources.ts';
import { ownedBy } from '../../src/union/owner.ts';
import { eventually } from '../support/eventually.ts';
import {
  type ApiRequest,
  type Asked,
  type Asker,
  administrator,
  asAccount,
  askedSoFar,
  type Grant,
  grants,
  neededFor,
  type Right,
  type Role,
  type Rule,
  rightsOf,
  userOf,
} from './support/rights.ts';

/** The API server hears of changed rules by a watch of its own. */
const HEARD_WITHIN_MS = 15_000;

/** Asked for by admission as it checks the owners that a new object holds back (run.sh switches that on): what we make so. */
const CHECKED_BY_ADMISSION: Readonly<Record<string, ApiRequest>> = {
  'update union.csi.dev/unionvolumes/finalizers': creationOf('persistentvolumeclaims', 'UnionVolume', {
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '1Mi' } },
  }),
  'update union.csi.dev/unionattachments/finalizers': creationOf('pods', 'UnionAttachment', {
    containers: [{ name: 'server', image: 'none' }],
  }),
};

describe('the rights of the driver', () => {
  let granted: readonly Grant[];
  let forbidden: readonly Asked[];
  /** Of each account, one request for each right that it used. */
  const used = new Map<string, Map<string, Asked>>();

  before(async () => {
    granted = await grants();
    const asked = askedSoFar();
    forbidden = asked.filter(({ annotations }) => annotations?.['authorization.k8s.io/decision'] === 'forbid');
    for (const { accounts } of granted) for (const account of accounts) used.set(userOf(account), new Map());
    for (const each of asked) for (const text of neededFor(each)) used.get(each.user.username)?.set(text, each);
  });

  /** As one of its holders asked for it. */
  const requestFor = ({ accounts }: Grant, { text }: Right): ApiRequest | undefined => {
    const [asked] = accounts.flatMap((account) => used.get(userOf(account))?.get(text) ?? []);
    return CHECKED_BY_ADMISSION[text] ?? (asked && withoutEffect(asked));
  };
  const unused = (grant: Grant): readonly string[] => {
    const rights = rightsOf(grant.role.rules).filter((right) => requestFor(grant, right) === undefined);
    return rights.map(({ text }) => `${grant.role.metadata.name}: ${text}`);
  };

  it('suffice', () => {
    const what = forbidden.map((asked) => `${asked.userAgent}: ${neededFor(asked).at(-1)}`);
    expect([...new Set(what)]).to.deep.equal([]);
  });

  it('are all used', () => {
    expect(granted.flatMap(unused)).to.deep.equal([]);
    // One more would be told of.
    const { role, accounts } = granted[0]!;
    const rules = [...role.rules, { apiGroups: [''], resources: ['configmaps'], verbs: ['get'] }];
    expect(unused({ role: { ...role, rules }, accounts })).to.deep.equal([
      `${role.metadata.name}: get core/configmaps`,
    ]);
  });

  it('are each refused without their rule', async function () {
    this.timeout(600_000);
    const started = Date.now();
    const admin = administrator();
    const accounts = [...new Set(granted.flatMap((grant) => grant.accounts))];
    const askers = new Map(await Promise.all(accounts.map(async (name) => [name, await asAccount(name)] as const)));
    const faults: string[] = [];
    let count = 0;
    for (const grant of granted) {
      const rights = rightsOf(grant.role.rules);
      for (const right of rights) {
        const request = requestFor(grant, right);
        if (request === undefined) continue;
        const holders = grant.accounts.map((account) => ({ account, ask: askers.get(account)! }));
        const others = rights.filter((each) => each !== right).map(({ rule }) => rule);
        await setRules(admin, grant.role, others);
        faults.push(...(await wrongly('allowed', holders, { right, request })));
        await setRules(admin, grant.role, grant.role.rules);
        faults.push(...(await wrongly('refused', holders, { right, request })));
        count += holders.length;
      }
    }
    expect(faults, 'given twice, or not given').to.deep.equal([]);
    const seconds = ((Date.now() - started) / 1000).toFixed(1);
    process.stdout.write(`      ${count} rights in ${granted.length} roles taken and given back in ${seconds} s\n`);
  });
});

interface Holder {
  readonly account: string;
  readonly ask: Asker;
}

interface Trial {
  readonly right: Right;
  readonly request: ApiRequest;
}

/** Who of the holders of a right is still refused or allowed it, after a while. */
async function wrongly(verdict: 'refused' | 'allowed', holders: readonly Holder[], { right, request }: Trial) {
  const look = async ({ account, ask }: Holder): Promise<readonly string[]> => {
    const isSo = async () => {
      const { status, message } = await ask(request);
      if (status === 403) expect(message).to.include(refusalOf(account, right));
      else expect(status, `${request.uri}: ${message}`).to.be.within(200, 499);
      return (status === 403) === (verdict === 'allowed');
    };
    const what = `${account} not to be ${verdict} ${right.text}`;
    return await eventually(what, isSo, HEARD_WITHIN_MS).then(
      () => [],
      (error: Error) => [error.message],
    );
  };
  return (await Promise.all(holders.map(look))).flat();
}

async function setRules(admin: Asker, { kind, metadata }: Role, rules: readonly Rule[]): Promise<void> {
  const place = kind === 'ClusterRole' ? 'clusterroles' : `namespaces/${metadata.namespace}/roles`;
  const uri = `/apis/rbac.authorization.k8s.io/v1/${place}/${metadata.name}`;
  const { status, message } = await admin({ method: 'PATCH', uri, body: { rules } });
  expect(status, message).to.equal(200);
}

function refusalOf(account: string, { verb, resource, text }: Right): string {
  if (text in CHECKED_BY_ADMISSION) return "you can't set finalizers on";
  return `User "${userOf(account)}" cannot ${verb} resource "${resource}"`;
}

const METHODS: Readonly<Record<string, string>> = { create: 'POST', update: 'PUT', patch: 'PATCH', delete: 'DELETE' };

/** Of no consequence where it is allowed: what is written is nothing, and not kept. */
function withoutEffect({ verb, requestURI }: Asked): ApiRequest {
  const method = METHODS[verb];
  if (method === undefined) return { method: 'GET', uri: requestURI };
  const uri = `${requestURI}${requestURI.includes('?') ? '&' : '?'}dryRun=All`;
  return verb === 'delete' ? { method, uri } : { method, uri, body: {} };
}

function creationOf(resource: string, owner: 'UnionVolume' | 'UnionAttachment', spec: object): ApiRequest {
  const ownerReferences = ownedBy(owner, { metadata: { name: 'owner', uid: 'owner' } });
  const body = { metadata: { name: 'owned', ownerReferences }, spec };
  return { method: 'POST', uri: `/api/v1/namespaces/${DRIVER_NAMESPACE}/${resource}?dryRun=All`, body };
}
