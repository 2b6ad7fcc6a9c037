/** Rules of built-in kinds that people run into, and those of our own definitions. */
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { parse } from 'yaml';
import {
  customResourceDefinitions,
  namespaces,
  persistentVolumeClaims,
  pods,
  resourceQuotas,
  storageClasses,
  unionAttachments,
  unionVolumes,
} from '../../../../src/embedded/api-server/kinds.ts';
import { type Draft, Store } from '../../../../src/embedded/api-server/store.ts';
import type { PersistentVolumeClaim } from '../../../../src/protocol/objects.ts';
import type { UnionVolume } from '../../../../src/protocol/resources.ts';

const REF = { namespace: 'default', name: 'a' };

function claim(storage = '1Gi', storageClassName = 'fast', name = 'a'): Draft<PersistentVolumeClaim> {
  const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage } }, storageClassName };
  return { metadata: { namespace: 'default', name }, spec };
}

const settled = () => new Promise(setImmediate);

describe('validation', () => {
  let store = new Store();
  beforeEach(() => {
    store = new Store();
    store.create(namespaces, { metadata: { name: 'default' } });
    store.create(storageClasses, { metadata: { name: 'fast' }, provisioner: 'x', allowVolumeExpansion: true });
  });

  const resize = (storage: string) => () =>
    store.patch(persistentVolumeClaims, REF, {
      type: 'merge',
      body: { spec: { resources: { requests: { storage } } } },
    });

  function bound(): void {
    store.create(persistentVolumeClaims, claim());
    store.patch(persistentVolumeClaims, REF, { type: 'merge', body: { spec: { volumeName: 'pv' } } });
    const status = { phase: 'Bound', capacity: { storage: '1Gi' } };
    store.patch(persistentVolumeClaims, REF, { type: 'merge', body: { status } }, { subresource: 'status' });
  }

  describe('of claims', () => {
    it('protects them and gives them a phase', () => {
      const { metadata, spec, status } = store.create(persistentVolumeClaims, claim());
      expect(metadata.finalizers).to.deep.equal(['kubernetes.io/pvc-protection']);
      expect(spec?.volumeMode).to.equal('Filesystem');
      expect(status?.phase).to.equal('Pending');
    });

    it('lets a volume be set once, and nothing else change', () => {
      bound();
      const patch = (spec: object) => () => store.patch(persistentVolumeClaims, REF, { type: 'merge', body: { spec } });
      expect(patch({ volumeName: 'other' })).to.throw('spec is immutable after creation');
      expect(patch({ accessModes: ['ReadWriteMany'] })).to.throw('spec is immutable after creation');
    });

    it('grows bound ones of a class that allows it, and shrinks none', () => {
      bound();
      resize('2Gi')();
      expect(resize('512Mi')).to.throw('field can not be less than status.capacity');
    });

    it('does not grow unbound ones, nor those of other classes', () => {
      store.create(persistentVolumeClaims, claim('1Gi', 'other'));
      expect(resize('2Gi')).to.throw('spec is immutable after creation');
      store.patch(persistentVolumeClaims, REF, { type: 'merge', body: { spec: { volumeName: 'pv' } } });
      expect(resize('2Gi')).to.throw('the storageclass that provisions the pvc must support resize');
    });

    it('refuses sizes that are none, and no access mode', () => {
      expect(() => store.create(persistentVolumeClaims, claim('lots'))).to.throw('"lots" is not a size');
      expect(() => store.create(persistentVolumeClaims, claim('0'))).to.throw('must be greater than zero');
      const spec = { ...claim().spec, accessModes: [] };
      expect(() => store.create(persistentVolumeClaims, { ...claim(), spec })).to.throw(
        'at least 1 access mode is required',
      );
    });

    it('uses the default class', () => {
      const annotations = { 'storageclass.kubernetes.io/is-default-class': 'true' };
      store.create(storageClasses, { metadata: { name: 'standard', annotations }, provisioner: 'x' });
      const { storageClassName: _class, ...spec } = claim().spec!;
      const made = store.create(persistentVolumeClaims, { ...claim(), spec });
      expect(made.spec?.storageClassName).to.equal('standard');
    });

    it('keeps to quotas, and counts what they use', async () => {
      const hard = { persistentvolumeclaims: '2', 'requests.storage': '3Gi' };
      store.create(resourceQuotas, { metadata: { namespace: 'default', name: 'q' }, spec: { hard } });
      store.create(persistentVolumeClaims, claim('2Gi'));
      expect(() => store.create(persistentVolumeClaims, claim('2Gi', 'fast', 'b'))).to.throw(
        'exceeded quota: q, requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: requests.storage=3Gi',
      );
      store.create(persistentVolumeClaims, claim('1Gi', 'fast', 'b'));
      expect(() => store.create(persistentVolumeClaims, claim('1Gi', 'fast', 'c'))).to.throw('exceeded quota: q');
      await settled();
      const quota = store.get(resourceQuotas, { namespace: 'default', name: 'q' });
      expect(quota?.status?.used).to.deep.equal({ persistentvolumeclaims: '2', 'requests.storage': '3Gi' });
    });
  });

  it('refuses changes of a class', () => {
    const change = () =>
      store.patch(storageClasses, { name: 'fast' }, { type: 'merge', body: { parameters: { a: 'b' } } });
    expect(change).to.throw('parameters: Forbidden: updates to parameters are forbidden.');
  });

  it('refuses changes of a pod, but its node may be set once', () => {
    store.create(pods, { metadata: REF, spec: { containers: [{ name: 'c', image: 'i' }] } });
    const patch = (spec: object) => () => store.patch(pods, REF, { type: 'merge', body: { spec } });
    patch({ nodeName: 'n' })();
    expect(patch({ nodeName: 'm' })).to.throw('pod updates may not change fields');
    expect(patch({ restartPolicy: 'Never' })).to.throw('pod updates may not change fields');
  });

  it('refuses pods without containers, and mounts without volumes', () => {
    expect(() => store.create(pods, { metadata: REF, spec: { containers: [] } })).to.throw(
      'spec.containers: Required value',
    );
    const containers = [{ name: 'c', image: 'i', volumeMounts: [{ name: 'v', mountPath: '/x' }] }];
    expect(() => store.create(pods, { metadata: REF, spec: { containers } })).to.throw(
      'volumeMounts[0].name: Not found: "v"',
    );
  });

  describe('of our resources', () => {
    beforeEach(() => {
      for (const plural of ['unionvolumes', 'unionattachments']) {
        const path = new URL(`../../../../deploy/base/crds/${plural}.yaml`, import.meta.url);
        store.create(customResourceDefinitions, parse(readFileSync(path, 'utf8')));
      }
    });

    const spec: UnionVolume['spec'] = {
      volumeName: 'pvc-1',
      capacityBytes: '1073741824',
      accessModes: ['ReadWriteOnce'],
      branches: [
        {
          id: 'b0',
          mode: 'RW',
          origin: 'created',
          claim: { namespace: 'n', name: 'c' },
          sizeBytes: '1073741824',
          desired: 'active',
        },
      ],
      policies: { create: 'mspmfs', action: 'epall', search: 'ff' },
      expandStrategy: 'grow',
      mountOptions: [],
    };

    it('takes a volume, counts generations, and keeps status apart', () => {
      const made = store.create(unionVolumes, { metadata: { name: 'uv-1' }, spec });
      expect(made.metadata.generation).to.equal(1);
      const status = { phase: 'Ready', capacityBytes: '1', conditions: [], branches: [] } as const;
      const ready = store.modify(unionVolumes, made.metadata, (volume) => ({ ...volume, status }), {
        subresource: 'status',
      });
      expect(ready.status?.phase).to.equal('Ready');
      expect(ready.metadata.generation).to.equal(1);
      const grown = store.modify(unionVolumes, made.metadata, (volume) => ({
        ...volume,
        spec: { ...spec, capacityBytes: '2' },
      }));
      expect(grown.metadata.generation).to.equal(2);
      expect(grown.status?.phase).to.equal('Ready');
    });

    it('names what is wrong with a volume', () => {
      const wrong = {
        ...spec,
        capacityBytes: '1Gi',
        branches: [{ ...spec.branches[0]!, id: 'x', mode: 'RX' as 'RW' }],
      };
      expect(() => store.create(unionVolumes, { metadata: { name: 'uv-1' }, spec: wrong })).to.throw(
        /^UnionVolume.union.csi.dev "uv-1" is invalid: \[spec.capacityBytes: .*, spec.branches\[0\].id: .*, spec.branches\[0\].mode: .*\]$/,
      );
    });

    it('allows 64 branches, and not one more', () => {
      const many = (count: number) =>
        Array.from({ length: count }, (_, index) => ({ ...spec.branches[0]!, id: `b${index}` }));
      store.create(unionVolumes, { metadata: { name: 'uv-1' }, spec: { ...spec, branches: many(64) } });
      const create = () =>
        store.create(unionVolumes, { metadata: { name: 'uv-2' }, spec: { ...spec, branches: many(65) } });
      expect(create).to.throw('spec.branches: Too many: 65: must have at most 64 items');
    });

    it('takes an attachment', () => {
      const made = store.create(unionAttachments, {
        metadata: { name: 'ua-1' },
        spec: { volume: 'uv-1', node: 'n', readOnly: false },
      });
      expect(made.apiVersion).to.equal('union.csi.dev/v1alpha1');
    });
  });
});
