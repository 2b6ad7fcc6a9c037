/** Child of journal.test.ts: counts in a store and says each number once it is written, until it is killed. */
import { writeSync } from 'node:fs';
import { configMaps, namespaces } from '../../../../src/embedded/api-server/kinds.ts';
import { Store } from '../../../../src/embedded/api-server/store.ts';

const store = new Store({ directory: process.argv[2]! });
const ref = { namespace: 'default', name: 'counter' };
if (!store.get(namespaces, { name: 'default' })) store.create(namespaces, { metadata: { name: 'default' } });
if (!store.get(configMaps, ref)) store.create(configMaps, { metadata: ref, data: { value: '0' } });
for (let value = Number(store.get(configMaps, ref)?.data?.value) + 1; ; value++) {
  store.modify(configMaps, ref, (object) => ({ ...object, data: { value: String(value), filler: 'x'.repeat(300) } }));
  writeSync(1, `${value}\n`);
}
