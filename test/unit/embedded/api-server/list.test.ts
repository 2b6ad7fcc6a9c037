/** Lists in pages. */
import { expect } from 'chai';
import { configMaps, namespaces } from '../../../../src/embedded/api-server/kinds.ts';
import { listPage } from '../../../../src/embedded/api-server/list.ts';
import { Store } from '../../../../src/embedded/api-server/store.ts';

function filled(): Store {
  const store = new Store();
  store.create(namespaces, { metadata: { name: 'default' } });
  for (const name of ['c', 'a', 'e', 'b', 'd']) store.create(configMaps, { metadata: { namespace: 'default', name } });
  return store;
}

const names = (page: ReturnType<typeof listPage>) => page.items.map(({ metadata }) => metadata.name).join('');

describe('listPage', () => {
  it('sorts by name and says how much is left', () => {
    const store = filled();
    const page = listPage(store, store.info(configMaps), { limit: 2 });
    expect(names(page)).to.equal('ab');
    expect(page.remainingItemCount).to.equal(3);
    expect(names(listPage(store, store.info(configMaps), {}))).to.equal('abcde');
  });

  it('goes on with the list as it was at the beginning', () => {
    const store = filled();
    const info = store.info(configMaps);
    const first = listPage(store, info, { limit: 2 });
    store.delete(configMaps, { namespace: 'default', name: 'd' });
    store.create(configMaps, { metadata: { namespace: 'default', name: 'bb' } });
    store.modify(configMaps, { namespace: 'default', name: 'e' }, (object) => ({ ...object, data: { new: '1' } }));
    const rest = listPage(store, info, { limit: 9, continue: first.continue });
    expect(names(rest)).to.equal('cde');
    expect(rest.items[2]).to.not.have.property('data');
    expect(rest.resourceVersion).to.equal(first.resourceVersion);
    expect(rest.continue).to.equal(undefined);
    expect(names(listPage(store, info, { exactResourceVersion: first.resourceVersion }))).to.equal('abcde');
  });

  it('answers 410 when the beginning is forgotten', () => {
    const store = filled();
    const info = store.info(configMaps);
    const first = listPage(store, info, { limit: 2 });
    for (let n = 0; n < 2000; n++)
      store.modify(configMaps, { namespace: 'default', name: 'a' }, (object) => ({
        ...object,
        data: { n: String(n) },
      }));
    expect(() => listPage(store, info, { continue: first.continue })).to.throw('too old resource version');
  });

  it('refuses a token that is not its own', () => {
    const store = filled();
    expect(() => listPage(store, store.info(configMaps), { continue: 'x' })).to.throw('continue key is not valid');
  });
});
