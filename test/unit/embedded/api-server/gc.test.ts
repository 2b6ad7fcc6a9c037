/** Garbage collection: owners and dependents, namespaces, definitions. */
import { expect } from 'chai';
import {
  configMaps,
  customResourceDefinitions,
  type Kind,
  namespaces,
  secrets,
} from '../../../../src/embedded/api-server/kinds.ts';
import { Store } from '../../../../src/embedded/api-server/store.ts';
import type { KubeObject } from '../../../../src/protocol/objects.ts';

const settled = () => new Promise(setImmediate);
const at = (name: string) => ({ namespace: 'default', name });

function ownerReference(owner: KubeObject, blockOwnerDeletion = false) {
  const { name, uid = '' } = owner.metadata;
  return { apiVersion: owner.apiVersion, kind: owner.kind, name, uid, blockOwnerDeletion };
}

describe('garbage collection', () => {
  let store = new Store();
  beforeEach(() => {
    store = new Store();
    store.create(namespaces, { metadata: { name: 'default' } });
  });

  function family(blocks = false, finalizers: string[] = []) {
    const owner = store.create(configMaps, { metadata: at('owner') });
    store.create(secrets, {
      metadata: { ...at('child'), ownerReferences: [ownerReference(owner, blocks)], finalizers },
    });
    return owner;
  }

  const has = (kind: Kind, name: string) => store.get(kind, at(name)) !== undefined;

  it('removes dependents in the background', async () => {
    family();
    expect(store.delete(configMaps, at('owner'), { propagationPolicy: 'Background' }).gone).to.equal(true);
    await settled();
    expect(has(secrets, 'child')).to.equal(false);
  });

  it('follows through generations', async () => {
    family();
    const child = store.get(secrets, at('child'))!;
    store.create(configMaps, { metadata: { ...at('grandchild'), ownerReferences: [ownerReference(child)] } });
    store.delete(configMaps, at('owner'));
    await settled();
    expect(store.list(configMaps)).to.deep.equal([]);
  });

  it('keeps the owner until blocking dependents are gone in the foreground', async () => {
    family(true, ['x/hold']);
    expect(store.delete(configMaps, at('owner'), { propagationPolicy: 'Foreground' }).gone).to.equal(false);
    await settled();
    expect(store.get(secrets, at('child'))?.metadata.deletionTimestamp).to.be.a('string');
    expect(has(configMaps, 'owner')).to.equal(true);
    store.patch(secrets, at('child'), { type: 'merge', body: { metadata: { finalizers: null } } });
    await settled();
    expect(has(secrets, 'child')).to.equal(false);
    expect(has(configMaps, 'owner')).to.equal(false);
  });

  it('lets dependents live when they are orphaned', async () => {
    family();
    store.delete(configMaps, at('owner'), { propagationPolicy: 'Orphan' });
    await settled();
    expect(has(configMaps, 'owner')).to.equal(false);
    expect(store.get(secrets, at('child'))?.metadata.ownerReferences ?? []).to.deep.equal([]);
  });

  it('lets dependents live while one of their owners does', async () => {
    const [one, two] = ['one', 'two'].map((name) => store.create(configMaps, { metadata: at(name) }));
    const ownerReferences = [ownerReference(one!), ownerReference(two!)];
    store.create(secrets, { metadata: { ...at('child'), ownerReferences } });
    store.delete(configMaps, at('one'));
    await settled();
    expect(store.get(secrets, at('child'))?.metadata.ownerReferences).to.have.length(1);
    store.delete(configMaps, at('two'));
    await settled();
    expect(has(secrets, 'child')).to.equal(false);
  });

  it('removes objects whose owner never was, or was another of the same name', async () => {
    const owner = family();
    const reference = { ...ownerReference(owner), uid: 'another' };
    store.create(secrets, { metadata: { ...at('stray'), ownerReferences: [reference] } });
    await settled();
    expect(has(secrets, 'stray')).to.equal(false);
    expect(has(secrets, 'child')).to.equal(true);
  });

  it('empties a namespace, and refuses new objects in it meanwhile', async () => {
    store.create(namespaces, { metadata: { name: 'n' } });
    store.create(configMaps, { metadata: { namespace: 'n', name: 'a', finalizers: ['x/hold'] } });
    store.create(secrets, { metadata: { namespace: 'n', name: 'b' } });
    store.delete(namespaces, { name: 'n' });
    await settled();
    expect(store.get(namespaces, { name: 'n' })?.status?.phase).to.equal('Terminating');
    expect(store.list(secrets)).to.deep.equal([]);
    expect(() => store.create(secrets, { metadata: { namespace: 'n', name: 'c' } })).to.throw(
      'because it is being terminated',
    );
    store.patch(configMaps, { namespace: 'n', name: 'a' }, { type: 'merge', body: { metadata: { finalizers: [] } } });
    await settled();
    expect(store.get(namespaces, { name: 'n' })).to.equal(undefined);
  });

  it('does not let the default namespace go', () => {
    expect(() => store.delete(namespaces, { name: 'default' })).to.throw('this namespace may not be deleted');
  });

  it('lets no definition take the place of a built-in kind', () => {
    const versions = [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } }];
    const names = { kind: 'StorageClass', plural: 'storageclasses' };
    const spec = { group: 'storage.k8s.io', scope: 'Cluster', names, versions };
    const create = () =>
      store.create(customResourceDefinitions, { metadata: { name: 'storageclasses.storage.k8s.io' }, spec });
    expect(create).to.throw('storageclasses.storage.k8s.io is built in');
  });

  it('removes the objects of a definition before the definition', async () => {
    const widgets: Kind = { group: 'x.io', version: 'v1', kind: 'Widget', plural: 'widgets' };
    const versions = [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } }];
    const spec = { group: 'x.io', scope: 'Cluster', names: { kind: 'Widget', plural: 'widgets' }, versions };
    store.create(customResourceDefinitions, { metadata: { name: 'widgets.x.io' }, spec });
    store.create(widgets, { metadata: { name: 'w', finalizers: ['x/hold'] } });
    store.delete(customResourceDefinitions, { name: 'widgets.x.io' });
    await settled();
    expect(store.get(widgets, { name: 'w' })?.metadata.deletionTimestamp).to.be.a('string');
    store.patch(widgets, { name: 'w' }, { type: 'merge', body: { metadata: { finalizers: null } } });
    await settled();
    expect(store.get(customResourceDefinitions, { name: 'widgets.x.io' })).to.equal(undefined);
    expect(() => store.list(widgets)).to.not.throw();
    expect(() => store.create(widgets, { metadata: { name: 'w' } })).to.throw('could not find the requested resource');
  });
});
