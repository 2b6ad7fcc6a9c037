import { expect } from 'chai';
import { chooseVolume, isPromisedTo } from '../../../../src/embedded/sidecars/binding.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../../../src/protocol/objects.ts';

function claim(spec: object = {}): PersistentVolumeClaim {
  return {
    ...{ apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { namespace: 'ns', name: 'c', uid: 'u1' } },
    spec: {
      ...{ storageClassName: 'k', accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '2Gi' } } },
      ...spec,
    },
  };
}

function volume(name: string, storage: string, spec: object = {}, labels = {}): PersistentVolume {
  return {
    ...{ apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name, labels } },
    spec: { storageClassName: 'k', accessModes: ['ReadWriteOnce'], capacity: { storage }, ...spec },
  };
}

const nameOf = (of: PersistentVolumeClaim, volumes: PersistentVolume[]) =>
  chooseVolume(of, volumes, undefined)?.metadata.name;

describe('chooseVolume', () => {
  it('takes the smallest volume that is large enough', () => {
    expect(nameOf(claim(), [volume('small', '1Gi'), volume('large', '9Gi'), volume('fits', '3Gi')])).to.equal('fits');
    expect(nameOf(claim(), [volume('small', '1Gi')])).to.equal(undefined);
  });

  it('leaves volumes of another class, mode, promise or fate alone', () => {
    const others = [
      volume('class', '2Gi', { storageClassName: 'other' }),
      volume('block', '2Gi', { volumeMode: 'Block' }),
      volume('read-only', '2Gi', { accessModes: ['ReadOnlyMany'] }),
      volume('promised', '2Gi', { claimRef: { namespace: 'ns', name: 'other' } }),
      { ...volume('going', '2Gi'), metadata: { name: 'going', deletionTimestamp: '2026-01-01T00:00:00Z' } },
    ];
    expect(nameOf(claim(), others)).to.equal(undefined);
  });

  it('takes a volume that was promised to the claim whatever its size', () => {
    const promised = volume('promised', '1Gi', { claimRef: { namespace: 'ns', name: 'c' } });
    expect(nameOf(claim(), [volume('fits', '2Gi'), promised])).to.equal('promised');
  });

  it('honours the labels that a claim selects', () => {
    const selector = { matchLabels: { tier: 'fast' }, matchExpressions: [{ key: 'old', operator: 'DoesNotExist' }] };
    const volumes = [volume('slow', '2Gi', {}, { tier: 'slow' }), volume('old', '2Gi', {}, { tier: 'fast', old: '' })];
    expect(nameOf(claim({ selector }), volumes)).to.equal(undefined);
    expect(nameOf(claim({ selector }), [...volumes, volume('new', '2Gi', {}, { tier: 'fast' })])).to.equal('new');
  });
});

describe('isPromisedTo', () => {
  it('tells a claim from an earlier one of its name', () => {
    const promised = (uid: string) => volume('v', '1Gi', { claimRef: { namespace: 'ns', name: 'c', uid } });
    expect(isPromisedTo(promised('u1'), claim())).to.equal(true);
    expect(isPromisedTo(promised('u0'), claim())).to.equal(false);
    expect(isPromisedTo(promised(''), claim())).to.equal(true);
  });
});
