/** The Controller service, when the claim that a volume is made for goes meanwhile. */
import { expect } from 'chai';
import { controllerHandlers } from '../../../src/csi/controller.ts';
import { persistentVolumeClaims, storageClasses } from '../../../src/embedded/api-server/kinds.ts';
import { type ControlPlane, startControlPlane } from '../../support/control-plane.ts';
import { calls, census, creation, refusal } from '../../support/controller-calls.ts';
import { eventually } from '../../support/eventually.ts';
import { type Reconciled, startReconciled } from '../../support/reconciled.ts';

describe('csi controller, of claims that go', () => {
  let plane: ControlPlane;
  let reconciled: Reconciled;
  let call: ReturnType<typeof calls>;

  beforeEach(async () => {
    plane = await startControlPlane();
    reconciled = startReconciled(plane);
    call = calls(controllerHandlers(reconciled.dependencies));
  });

  afterEach(async () => {
    await reconciled.stop();
    await plane.close();
  });

  it('gives up what was begun for a claim that has gone, and only that', async () => {
    const { store } = plane;
    const parameters = {
      ...{ lowerStorageClassName: 'plain', branches: '2' },
      ...{ 'csi.storage.k8s.io/pvc/name': 'data', 'csi.storage.k8s.io/pvc/namespace': 'default' },
    };
    const claim = () =>
      store.create(persistentVolumeClaims, {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'data', namespace: 'default' },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      });
    const first = claim();
    const request = creation(`pvc-${first.metadata.uid}`, { parameters });
    const { volume } = await call.create(request);
    store.delete(persistentVolumeClaims, { namespace: 'default', name: 'data' });
    // It was handed out: the caller is to have it, and to delete it.
    expect((await call.create(request)).volume).to.deep.equal(volume);
    await call.remove(volume!.volumeId!);
    expect((await refusal(call.create(request))).message).to.match(/^claim "default\/data" has gone/);
    // Another of the same name is another.
    claim();
    expect((await refusal(call.create(request))).message).to.match(/^claim "default\/data" has gone/);
    expect(census(plane)).to.include({ volumes: 0, persistentVolumes: 0 });
  });

  it('leaves nothing of a union whose claim goes, with its class, while it is made', async () => {
    const { store } = plane;
    store.create(persistentVolumeClaims, {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'data', namespace: 'default' },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    });
    const parameters = {
      ...{ lowerStorageClassName: 'never', branches: '2' },
      ...{ 'csi.storage.k8s.io/pvc/name': 'data', 'csi.storage.k8s.io/pvc/namespace': 'default' },
    };
    store.create(storageClasses, {
      metadata: { name: 'never' },
      provisioner: 'never.example.com',
      volumeBindingMode: 'Immediate',
    });
    expect((await refusal(call.create(creation('pvc-1', { parameters }), 1500))).code).to.equal('ABORTED');
    expect(census(plane)).to.include({ volumes: 1, claims: 3 });
    store.delete(persistentVolumeClaims, { namespace: 'default', name: 'data' });
    // The provisioner does not call again: it cannot read the class any more.
    await eventually('nothing to be left', () => Object.values(census(plane)).every((count) => count === 0));
  });
});
