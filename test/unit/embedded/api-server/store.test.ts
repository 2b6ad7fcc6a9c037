import { expect } from 'chai';
import { configMaps, namespaces, pods } from '../../../../src/embedded/api-server/kinds.ts';
import { Store } from '../../../../src/embedded/api-server/store.ts';

describe('Store', () => {
  it('creates, reads, changes and deletes', () => {
    const store = new Store();
    store.create(namespaces, { metadata: { name: 'default' } });
    const made = store.create(configMaps, { metadata: { name: 'a', namespace: 'default' }, data: { x: '1' } });
    expect(made.metadata.resourceVersion).to.equal('2');
    store.modify(configMaps, { name: 'a', namespace: 'default' }, (object) => {
      object.data = { x: '2' };
    });
    expect(store.get(configMaps, { name: 'a', namespace: 'default' })?.data).to.deep.equal({ x: '2' });
    expect(() => store.update(configMaps, made)).to.throw('the object has been modified');
    expect(store.delete(configMaps, { name: 'a', namespace: 'default' }).gone).to.equal(true);
    expect(store.list(configMaps)).to.deep.equal([]);
    expect(store.list(pods)).to.deep.equal([]);
  });
});
