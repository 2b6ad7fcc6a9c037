/** @kubernetes/client-node, unchanged, against the embedded API server. */
import {
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  makeInformer,
  PatchStrategy,
  StorageV1Api,
  setHeaderOptions,
  Watch,
} from '@kubernetes/client-node';
import { expect } from 'chai';
import { silentLogger } from '../../src/base/logger.ts';
import { namespaces } from '../../src/embedded/api-server/kinds.ts';
import { type ApiServer, startApiServer } from '../../src/embedded/api-server/server.ts';
import { Store } from '../../src/embedded/api-server/store.ts';

describe('@kubernetes/client-node', () => {
  let store: Store;
  let server: ApiServer;
  const config = new KubeConfig();

  beforeEach(async () => {
    store = new Store();
    store.create(namespaces, { metadata: { name: 'default' } });
    const readLog = () => (async function* () {})();
    server = await startApiServer({ store, port: 0, readLog, log: silentLogger });
    config.loadFromClusterAndUser({ name: 'c', server: server.url, skipTLSVerify: true }, { name: 'u' });
  });
  afterEach(async () => {
    await server.close();
    store.close();
  });

  const namespace = 'default';

  it('creates, reads, patches, lists in pages and deletes', async () => {
    const core = config.makeApiClient(CoreV1Api);
    for (const name of ['a', 'b', 'c'])
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data: { x: '1' } } });
    const made = await core.readNamespacedConfigMap({ namespace, name: 'a' });
    expect(made.metadata?.creationTimestamp).to.be.instanceOf(Date);
    const patched = await core.patchNamespacedConfigMap(
      { namespace, name: 'a', body: { data: { x: '2' } } },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
    expect(patched.data).to.deep.equal({ x: '2' });
    const first = await core.listNamespacedConfigMap({ namespace, limit: 2 });
    const second = await core.listNamespacedConfigMap({ namespace, _continue: first.metadata!._continue! });
    expect([...first.items, ...second.items].map(({ metadata }) => metadata?.name)).to.deep.equal(['a', 'b', 'c']);
    await core.deleteNamespacedConfigMap({ namespace, name: 'a', body: { propagationPolicy: 'Foreground' } });
    const error: unknown = await core
      .readNamespacedConfigMap({ namespace, name: 'a' })
      .catch((thrown: unknown) => thrown);
    expect(error).to.have.property('code', 404);
  });

  it('is told of conflicts', async () => {
    const storage = config.makeApiClient(StorageV1Api);
    const made = await storage.createCSIDriver({ body: { metadata: { name: 'd' }, spec: { attachRequired: false } } });
    made.spec.podInfoOnMount = true;
    await storage.replaceCSIDriver({ name: 'd', body: made });
    const error: unknown = await storage
      .replaceCSIDriver({ name: 'd', body: { ...made, spec: {} } })
      .catch((thrown: unknown) => thrown);
    expect(error).to.have.property('code', 409);
  });

  it('informs of what is there and what comes', async () => {
    const core = config.makeApiClient(CoreV1Api);
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'a' } } });
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const informer = makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace }));
    const seen: string[] = [];
    const deleted = new Promise<void>((resolve) => {
      informer.on('add', ({ metadata }) => seen.push(`add ${metadata?.name}`));
      informer.on('update', ({ metadata }) => seen.push(`update ${metadata?.name}`));
      informer.on('delete', ({ metadata }) => {
        seen.push(`delete ${metadata?.name}`);
        resolve();
      });
    });
    await informer.start();
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'b' } } });
    await core.replaceNamespacedConfigMap({
      namespace,
      name: 'b',
      body: { metadata: { name: 'b' }, data: { x: '1' } },
    });
    await core.deleteNamespacedConfigMap({ namespace, name: 'b' });
    await deleted;
    await informer.stop();
    expect(seen).to.deep.equal(['add a', 'add b', 'update b', 'delete b']);
  });

  it('hears that a resourceVersion is too old', async () => {
    for (let n = 0; n < 2000; n++)
      store.patch(namespaces, { name: 'default' }, { type: 'merge', body: { metadata: { labels: { n: String(n) } } } });
    const event = await new Promise<{ type: string; code?: number }>((resolve) => {
      const onEvent = (type: string, object: { code?: number }) =>
        resolve({ type, ...(object.code && { code: object.code }) });
      void new Watch(config).watch('/api/v1/namespaces', { resourceVersion: '1' }, onEvent, () => {});
    });
    expect(event).to.deep.equal({ type: 'ERROR', code: 410 });
  });

  it('sees no custom kind before its definition', async () => {
    const custom = config.makeApiClient(CustomObjectsApi);
    const asked = { group: 'union.csi.dev', version: 'v1alpha1', plural: 'unionvolumes' };
    const error: unknown = await custom.listClusterCustomObject(asked).catch((thrown: unknown) => thrown);
    expect(error).to.have.property('code', 404);
  });
});
