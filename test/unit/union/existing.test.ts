/** What may be asked of a volume that exists. */
import { expect } from 'chai';
import type { UnionVolume } from '../../../src/protocol/resources.ts';
import { checkSameVolume, planExpansion } from '../../../src/union/existing.ts';
import { planVolume, unionVolume } from '../../../src/union/spec.ts';
import { classFacts, GIB, storageClass, volumeRequest } from '../../support/union-objects.ts';

const fast = { lowerStorageClassName: 'fast', branches: '4' };

function specOf(fields: Parameters<typeof volumeRequest>[0] = {}) {
  const result = planVolume(volumeRequest({ parameters: fast, ...fields }), classFacts());
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

const range = (requiredBytes: bigint, limitBytes = 0n) => ({ requiredBytes, limitBytes });
const facts = { storageClasses: [storageClass('fast'), storageClass('slow', { allowVolumeExpansion: false })] };

function expanded(volume: UnionVolume, requiredBytes: bigint) {
  const result = planExpansion(volume, range(requiredBytes), facts);
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

describe('checkSameVolume', () => {
  const existing = specOf();
  const difference = (fields: Parameters<typeof volumeRequest>[0], capacity = range(4n * GIB)) => {
    const result = checkSameVolume(existing, specOf({ capacity, ...fields }), capacity);
    return result.ok ? undefined : `${result.error.code}: ${result.error.message}`;
  };
  const message = (what: string) => `ALREADY_EXISTS: volume "pvc-1" exists with another ${what}; use another name`;

  it('accepts the same again', () => expect(difference({})).to.equal(undefined));

  it('accepts the same again after it has grown', () => {
    const grown = expanded(unionVolume(existing), 8n * GIB);
    expect(checkSameVolume(grown, existing, range(4n * GIB)).ok).to.equal(true);
  });

  it('accepts the same again on another node', () => expect(difference({ nodes: ['n2'] })).to.equal(undefined));

  it('refuses another capacity', () => {
    expect(difference({}, range(5n * GIB))).to.equal(message('capacity, 4Gi'));
    expect(difference({}, range(GIB, 2n * GIB))).to.equal(message('capacity, 4Gi'));
  });

  it('refuses other branches, policies and access modes', () => {
    expect(difference({ parameters: { ...fast, branches: '2' } })).to.equal(message('list of branches'));
    expect(difference({ parameters: { ...fast, lowerStorageClassName: 'slow' } })).to.equal(
      message('list of branches'),
    );
    expect(difference({ parameters: { ...fast, createPolicy: 'ff' } })).to.equal(message('set of policies'));
    expect(difference({ accessModes: ['ReadWriteMany'] })).to.equal(message('set of access modes, ReadWriteOnce'));
  });
});

describe('planExpansion', () => {
  it('grows every branch in proportion', () => {
    const spec = expanded(unionVolume(specOf()), 8n * GIB);
    expect(spec.branches.map(({ sizeBytes }) => sizeBytes)).to.deep.equal(Array(4).fill(String(2n * GIB)));
    expect(spec.capacityBytes).to.equal(String(8n * GIB));
  });

  it('leaves a union that is large enough as it is', () => {
    const spec = specOf();
    expect(expanded(unionVolume(spec), GIB)).to.equal(spec);
  });

  it('adds a branch of the last class with a new id, where the class says so', () => {
    const spec = expanded(unionVolume(specOf({ parameters: { ...fast, expandStrategy: 'add-branch' } })), 6n * GIB);
    expect(spec.branches).to.have.length(5);
    expect(spec.branches[4]).to.include({ id: 'b4', storageClassName: 'fast', sizeBytes: String(2n * GIB) });
    expect(spec.branches[4]?.claim.name).to.match(/^uv-[0-9a-f]{32}-b4$/);
  });

  it('leaves branches alone whose class cannot grow, and refuses when none can', () => {
    const branchTemplates = '- {storageClassName: fast}\n- {storageClassName: slow}';
    const spec = expanded(unionVolume(specOf({ parameters: { branchTemplates } })), 5n * GIB);
    expect(spec.branches.map(({ sizeBytes }) => sizeBytes)).to.deep.equal([String(3n * GIB), String(2n * GIB)]);
    const slow = unionVolume(specOf({ parameters: { lowerStorageClassName: 'slow', branches: '2' } }));
    const result = planExpansion(slow, range(8n * GIB), facts);
    expect(result.ok ? '' : result.error.code).to.equal('OUT_OF_RANGE');
  });

  it('grows adopted claims only where their owner said so', () => {
    const volume = unionVolume(specOf());
    const adopted = (id: string, grow: boolean) =>
      ({ id, mode: 'RW', origin: 'adopted', claim: { namespace: 'shop', name: id }, grow, desired: 'active' }) as const;
    const status = {
      branches: ['b0', 'b1'].map((id) => ({ id, phase: 'Bound' as const, capacityBytes: String(GIB) })),
    };
    const spec = {
      ...volume.spec,
      branches: [adopted('b0', true), adopted('b1', false)],
      capacityBytes: String(2n * GIB),
    };
    const grown = expanded({ ...volume, spec, status }, 3n * GIB);
    expect(grown.branches.map(({ sizeBytes }) => sizeBytes)).to.deep.equal([String(2n * GIB), undefined]);
  });
});
