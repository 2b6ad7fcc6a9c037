/** Planning a volume from a request: what comes out, and the message of each refusal. */
import { expect } from 'chai';
import { ANNOTATION_BRANCHES, LABEL_VOLUME } from '../../../src/protocol/resources.ts';
import { planVolume, unionVolume, upperClaimOf } from '../../../src/union/spec.ts';
import {
  claim,
  classFacts,
  GIB,
  node,
  podUsing,
  storageClass,
  volumeOn,
  volumeRequest,
} from '../../support/union-objects.ts';

type Request = Parameters<typeof volumeRequest>[0];
type Facts = Parameters<typeof classFacts>[0];

function planned(request: Request = {}, facts: Facts = {}) {
  const result = planVolume(volumeRequest(request), classFacts(facts));
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

function refusal(request: Request = {}, facts: Facts = {}) {
  const result = planVolume(volumeRequest(request), classFacts(facts));
  if (result.ok) throw new Error('was not refused');
  return result.error;
}

const claimNames = { 'csi.storage.k8s.io/pvc/name': 'files', 'csi.storage.k8s.io/pvc/namespace': 'shop' };

/** Facts about an upper claim whose annotation lists `list`. */
function adopting(list: string, facts: Facts = {}): Facts {
  return { upperClaim: claim('files', { annotations: { [ANNOTATION_BRANCHES]: list } }), ...facts };
}

describe('planVolume', () => {
  const id = 'uv-f55a71f0d12dd1b74ea3bf4fd2fbc9d7';

  it('splits the capacity over branches with stable ids and names', () => {
    const spec = planned();
    const volumeId = unionVolume(spec).metadata.name;
    expect(volumeId).to.match(/^uv-[0-9a-f]{32}$/);
    expect(spec.branches.map((branch) => branch.id)).to.deep.equal(['b0', 'b1', 'b2', 'b3']);
    expect(spec.branches[2]).to.deep.equal({
      id: 'b2',
      mode: 'RW',
      desired: 'active',
      origin: 'created',
      claim: { namespace: 'union-csi', name: `${volumeId}-b2` },
      storageClassName: 'fast',
      sizeBytes: String(GIB),
    });
    expect(spec.capacityBytes).to.equal(String(4n * GIB));
    expect(spec.claim).to.deep.equal({ namespace: 'shop', name: 'files' });
  });

  it('gives the same spec for the same request', () => expect(planned()).to.deep.equal(planned()));

  it('puts branches into the namespace of the claim when the class says so', () => {
    const parameters = { lowerStorageClassName: 'fast', branches: '1', branchNamespace: 'claim', ...claimNames };
    expect(planned({ parameters }).branches[0]?.claim.namespace).to.equal('shop');
  });

  it('prefers the node of the upper claim to that of the topology', () => {
    const upperClaim = claim('files', { annotations: { 'volume.kubernetes.io/selected-node': 'node-2' } });
    expect(planned({ nodes: ['node-1'] }).selectedNode).to.equal('node-1');
    expect(planned({ nodes: ['node-1'] }, { upperClaim }).selectedNode).to.equal('node-2');
  });

  it('makes branches where adopted claims are, and the scheduler’s choice is not', () => {
    const facts = (...places: string[]) =>
      adopting('- claim: old\n- {storageClassName: slow, count: 1}', {
        claims: [claim('old', { size: '2Gi', volumeName: 'pv-old' })],
        adoptedVolumes: [volumeOn('pv-old', 'zone', places)],
        nodes: ['node-1', 'node-2', 'node-3'].map((name, index) => node(name, { zone: `zone-${index + 1}` })),
      });
    const nodes = ['node-1', 'node-2', 'node-3'];
    expect(planned({ nodes }, facts('zone-3')).selectedNode).to.equal('node-3');
    expect(planned({ nodes }, facts('zone-2', 'zone-3')).selectedNode).to.equal('node-2');
    expect(planned({ nodes }, facts('zone-1', 'zone-3')).selectedNode).to.equal('node-1');
    expect(refusal({ nodes: ['node-1', 'node-2'] }, facts('zone-3'))).to.deep.equal({
      code: 'RESOURCE_EXHAUSTED',
      message:
        'the claims to adopt are on zone-3, and none of the nodes where the driver is can reach them; see that a node plugin runs there',
    });
  });

  it('refuses to adopt claims that no node reaches together', () => {
    const names = ['a', 'b'];
    const facts = adopting('- claim: a\n- claim: b', {
      claims: names.map((name) => claim(name, { size: '2Gi', volumeName: `pv-${name}` })),
      adoptedVolumes: names.map((name) => volumeOn(`pv-${name}`, 'zone', [`zone-${name}`])),
    });
    expect(refusal({ nodes: ['node-1'] }, facts).message).to.match(/^no node can reach all branches/);
  });

  it('takes adopted claims as they are, and splits the rest of the capacity', () => {
    const facts = adopting('- {claim: old, mode: RO}\n- {storageClassName: slow, count: 2}', {
      claims: [claim('old', { size: '2Gi', volumeName: 'pv-old' })],
    });
    const { branches, capacityBytes } = planned({}, facts);
    expect(branches.map(({ origin, sizeBytes, claim: { namespace } }) => [origin, sizeBytes, namespace])).to.deep.equal(
      [
        ['adopted', undefined, 'shop'],
        ['created', String(GIB), 'shop'],
        ['created', String(GIB), 'shop'],
      ],
    );
    expect(capacityBytes).to.equal(String(4n * GIB));
  });

  it('gives a union of adopted claims alone the size that they have', () => {
    const claims = [claim('a', { size: '2Gi', volumeName: 'pv-a' }), claim('b', { size: '3Gi', volumeName: 'pv-b' })];
    const spec = planned(
      { capacity: { requiredBytes: 0n, limitBytes: 0n } },
      adopting('- claim: a\n- claim: b', { claims }),
    );
    expect(spec.capacityBytes).to.equal(String(5n * GIB));
  });

  it('adopts a claim that it adopted already, also while its own server uses it', () => {
    const upperId = unionVolume(planned()).metadata.name;
    const old = claim('old', { size: '4Gi', volumeName: 'pv', annotations: { 'union.csi.dev/adopted-by': upperId } });
    const pods = [podUsing('old', { labels: { [LABEL_VOLUME]: upperId } })];
    expect(planned({}, adopting('- claim: old', { claims: [old], pods })).branches).to.have.length(1);
  });

  it('does not mind pods that have ended', () => {
    const claims = [claim('old', { size: '4Gi', volumeName: 'pv' })];
    const pods = [podUsing('old', { phase: 'Succeeded' })];
    expect(planned({}, adopting('- claim: old', { claims, pods })).branches).to.have.length(1);
  });

  it('adopts a claim in use that is shared', () => {
    const claims = [claim('old', { size: '4Gi', volumeName: 'pv' })];
    const spec = planned({}, adopting('- {claim: old, shared: true}', { claims, pods: [podUsing('old')] }));
    expect(spec.branches[0]?.shared).to.equal(true);
  });

  const union = storageClass('union', { provisioner: 'union.csi.dev' });
  const local = storageClass('local', { provisioner: 'loop.embedded.union.csi.dev' });
  const waiting = storageClass('waiting', { volumeBindingMode: 'WaitForFirstConsumer' });
  const lower = (lowerStorageClassName: string) => ({ parameters: { lowerStorageClassName, branches: '2' } });

  const bad: readonly [what: string, request: Request, facts: Facts, code: string, message: string][] = [
    [
      'block mode',
      { volumeMode: 'Block' },
      {},
      'INVALID_ARGUMENT',
      'a union is a filesystem and cannot be a block device; set volumeMode: Filesystem',
    ],
    ['no access mode', { accessModes: [] }, {}, 'INVALID_ARGUMENT', 'no access mode is asked for; name one of'],
    [
      'bad parameters',
      { parameters: { branch: '2' } },
      {},
      'INVALID_ARGUMENT',
      'unknown parameter "branch"; did you mean "branches"?',
    ],
    [
      'no branches anywhere',
      { parameters: {} },
      {},
      'INVALID_ARGUMENT',
      'nothing says what the branches are; set lowerStorageClassName and branches',
    ],
    [
      'a missing lower class',
      lower('fats'),
      {},
      'INVALID_ARGUMENT',
      'lower storage class "fats" does not exist; did you mean "fast"?',
    ],
    [
      'a lower class that is our own',
      lower('union'),
      { storageClasses: [union] },
      'INVALID_ARGUMENT',
      'lower storage class "union" makes unions itself, and unions cannot be nested; name a class of another driver',
    ],
    [
      'a lower class that waits for a node that nobody chose',
      lower('waiting'),
      { storageClasses: [waiting] },
      'INVALID_ARGUMENT',
      'lower storage class "waiting" waits for a node, and none is known; set volumeBindingMode: WaitForFirstConsumer',
    ],
    [
      'many writers over lowers of one node',
      { ...lower('local'), accessModes: ['ReadWriteMany'] },
      { storageClasses: [local] },
      'INVALID_ARGUMENT',
      'access mode ReadWriteMany needs it of every branch, and storage class "local" supports only ReadWriteOnce, ' +
        'ReadWriteOncePod; ask for ReadWriteOnce or ReadWriteOncePod',
    ],
    [
      'branches in the namespace of an unknown claim',
      { parameters: { lowerStorageClassName: 'fast', branches: '1', branchNamespace: 'claim' } },
      {},
      'INVALID_ARGUMENT',
      'branchNamespace claim needs to know the claim; run the provisioner with --extra-create-metadata',
    ],
    [
      'a limit that the branches pass',
      { capacity: { requiredBytes: 1n, limitBytes: 1024n } },
      {},
      'OUT_OF_RANGE',
      'the branches need at least 64Mi, and the limit is 1Ki',
    ],
    [
      'a missing claim',
      {},
      adopting('- claim: old'),
      'NOT_FOUND',
      'claim "shop/old" to adopt does not exist; create it first',
    ],
    [
      'a claim of the same name in another namespace',
      {},
      adopting('- claim: old', { claims: [{ ...claim('old'), metadata: { name: 'old', namespace: 'other' } }] }),
      'NOT_FOUND',
      'claim "shop/old" to adopt does not exist',
    ],
    [
      'the claim itself',
      {},
      adopting('- claim: files'),
      'INVALID_ARGUMENT',
      'claim "shop/files" cannot be a branch of itself',
    ],
    [
      'a claim that is going',
      {},
      adopting('- claim: old', { claims: [claim('old', { deleting: true })] }),
      'FAILED_PRECONDITION',
      'claim "shop/old" is being deleted',
    ],
    [
      'a block claim',
      {},
      adopting('- claim: old', { claims: [claim('old', { volumeMode: 'Block' })] }),
      'INVALID_ARGUMENT',
      'claim "shop/old" is a block volume',
    ],
    [
      'a claim that is a union',
      {},
      adopting('- claim: old', { claims: [claim('old', { storageClassName: 'union' })], storageClasses: [union] }),
      'INVALID_ARGUMENT',
      'claim "shop/old" is a union itself, and unions cannot be nested',
    ],
    [
      'a claim of another union',
      {},
      adopting('- claim: old', { claims: [claim('old', { annotations: { 'union.csi.dev/adopted-by': id } })] }),
      'FAILED_PRECONDITION',
      `claim "shop/old" is a branch of union "${id}"; delete that union's claim first`,
    ],
    [
      'a claim that a pod uses',
      {},
      adopting('- claim: old', { claims: [claim('old')], pods: [podUsing('old')] }),
      'FAILED_PRECONDITION',
      'claim "shop/old" is in use by pod "app"; delete the pod, or say "shared: true" for this branch',
    ],
    [
      'adopted claims that hold too little',
      {},
      adopting('- claim: old', { claims: [claim('old', { size: '2Gi', volumeName: 'pv' })] }),
      'OUT_OF_RANGE',
      'the branches add up to 2Gi of the 4Gi asked for; ask for less',
    ],
    [
      'an adopted claim of one node for many',
      { accessModes: ['ReadWriteMany'] },
      adopting('- claim: old', { claims: [claim('old', { size: '4Gi', volumeName: 'pv' })] }),
      'INVALID_ARGUMENT',
      'access mode ReadWriteMany needs it of every branch, and claim "old" supports only ReadWriteOnce; ask for ReadWriteOnce',
    ],
  ];
  for (const [what, request, facts, code, message] of bad) {
    it(`refuses ${what}`, () => {
      const withClaim = facts?.upperClaim ? { parameters: claimNames, ...request } : request;
      const error = refusal(withClaim, facts);
      expect(error.message.slice(0, message.length)).to.equal(message);
      expect(error.code).to.equal(code);
    });
  }
});

describe('upperClaimOf', () => {
  it('names the claim before any fact is read', () => {
    expect(upperClaimOf(claimNames)).to.deep.equal({ ok: true, value: { namespace: 'shop', name: 'files' } });
    expect(upperClaimOf({})).to.deep.equal({ ok: true, value: undefined });
  });
});
