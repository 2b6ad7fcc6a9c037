/** The store's rules, as a process that shares it sees them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  configMaps,
  type Kind,
  namespaces,
  nodes,
  persistentVolumes,
  pods,
} from '../../../../src/embedded/api-server/kinds.ts';
import type { WatchEvent } from '../../../../src/embedded/api-server/selection.ts';
import { Store } from '../../../../src/embedded/api-server/store.ts';
import { StoreError } from '../../../../src/embedded/api-server/store-error.ts';
import type { KubeObject } from '../../../../src/protocol/objects.ts';

const REF = { namespace: 'default', name: 'a' };

function newStore(directory?: string): Store {
  const store = new Store(directory === undefined ? {} : { directory });
  if (!store.get(namespaces, { name: 'default' })) store.create(namespaces, { metadata: { name: 'default' } });
  return store;
}

function refusal(work: () => unknown): StoreError {
  try {
    work();
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

/** Events after everything that is queued now has been delivered. */
async function delivered<T>(events: T[]): Promise<T[]> {
  await new Promise(setImmediate);
  return events;
}

function seen(store: Store, kind: Kind<KubeObject>, from?: string, labelSelector?: string): WatchEvent<KubeObject>[] {
  const events: WatchEvent<KubeObject>[] = [];
  store.watch(kind, { fromResourceVersion: from, labelSelector }, (event) => events.push(event));
  return events;
}

const short = ({ type, object }: WatchEvent<KubeObject>) => `${type} ${object.metadata.name}`;

describe('Store', () => {
  describe('create', () => {
    it('completes the metadata', () => {
      const store = newStore();
      const made = store.create(configMaps, { metadata: { ...REF }, data: { x: '1' } });
      expect(made.apiVersion).to.equal('v1');
      expect(made.kind).to.equal('ConfigMap');
      expect(made.metadata.uid).to.match(/^[0-9a-f-]{36}$/);
      expect(made.metadata.creationTimestamp).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      expect(made.metadata.resourceVersion).to.equal(store.resourceVersion);
    });

    it('makes up the end of a generated name', () => {
      const made = newStore().create(configMaps, { metadata: { namespace: 'default', generateName: 'a-' } });
      expect(made.metadata.name).to.match(/^a-[0-9a-f]{5}$/);
    });

    it('gives copies: what a caller does to them is not seen by others', () => {
      const store = newStore();
      const draft = { metadata: { ...REF }, data: { x: '1' } };
      const made = store.create(configMaps, draft);
      made.data = {};
      draft.data.x = '2';
      expect(store.get(configMaps, REF)?.data).to.deep.equal({ x: '1' });
    });

    const refusals: [string, () => unknown, number, string][] = [
      [
        'a name that is taken',
        () => newStore().create(namespaces, { metadata: { name: 'default' } }),
        409,
        'namespaces "default" already exists',
      ],
      [
        'no name',
        () => newStore().create(configMaps, { metadata: { namespace: 'default' } }),
        422,
        'metadata.name: Required value',
      ],
      [
        'a bad name',
        () => newStore().create(configMaps, { metadata: { namespace: 'default', name: 'A_b' } }),
        422,
        'a lowercase RFC 1123 subdomain must consist',
      ],
      [
        'a missing namespace',
        () => newStore().create(configMaps, { metadata: { namespace: 'x', name: 'a' } }),
        404,
        'namespaces "x" not found',
      ],
      [
        'a resourceVersion',
        () => newStore().create(configMaps, { metadata: { ...REF, resourceVersion: '1' } }),
        400,
        'resourceVersion should not be set',
      ],
      [
        'another kind',
        () => newStore().create(configMaps, { kind: 'Pod', metadata: REF }),
        400,
        'Pod in the data does not match the expected kind ConfigMap',
      ],
    ];
    for (const [what, work, code, message] of refusals)
      it(`refuses ${what}`, () => {
        const error = refusal(work);
        expect(error.message).to.contain(message);
        expect(error.code).to.equal(code);
      });

    it('leaves nothing behind in a dry run', () => {
      const store = newStore();
      const before = store.resourceVersion;
      store.create(configMaps, { metadata: { ...REF } }, { dryRun: true });
      expect(store.get(configMaps, REF)).to.equal(undefined);
      expect(store.resourceVersion).to.equal(before);
    });
  });

  describe('update', () => {
    it('refuses a stale resourceVersion, and another uid', () => {
      const store = newStore();
      const first = store.create(configMaps, { metadata: { ...REF } });
      store.modify(configMaps, REF, (object) => ({ ...object, data: { x: '1' } }));
      expect(refusal(() => store.update(configMaps, { ...first, data: { x: '2' } })).code).to.equal(409);
      store.delete(configMaps, REF);
      store.create(configMaps, { metadata: { ...REF } });
      const { resourceVersion: _version, ...metadata } = first.metadata;
      const error = refusal(() => store.update(configMaps, { ...first, metadata }));
      expect(error.reason).to.equal('Conflict');
      expect(error.message).to.contain('UID in precondition');
    });

    it('writes nothing when nothing changes', () => {
      const store = newStore();
      const made = store.create(configMaps, { metadata: { ...REF } });
      expect(store.update(configMaps, made).metadata.resourceVersion).to.equal(made.metadata.resourceVersion);
    });

    it('keeps status and the rest apart', () => {
      const store = newStore();
      const spec = { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'] };
      store.create(persistentVolumes, { metadata: { name: 'v' }, spec, status: { phase: 'Bound' } });
      expect(store.get(persistentVolumes, { name: 'v' })?.status).to.deep.equal({ phase: 'Pending' });
      const both = (phase: string) => (volume: KubeObject & { spec?: object; status?: { phase?: string } }) => {
        volume.metadata.labels = { phase };
        volume.status = { phase };
        return undefined;
      };
      const main = store.modify(persistentVolumes, { name: 'v' }, both('A'));
      expect(main.status?.phase).to.equal('Pending');
      expect(main.metadata.labels).to.deep.equal({ phase: 'A' });
      const status = store.modify(persistentVolumes, { name: 'v' }, both('B'), { subresource: 'status' });
      expect(status.status?.phase).to.equal('B');
      expect(status.metadata.labels).to.deep.equal({ phase: 'A' });
    });

    it('lets a client change nothing that the server writes', () => {
      const store = newStore();
      const made = store.create(configMaps, { metadata: { ...REF } });
      const changed = store.modify(configMaps, REF, (object) => {
        object.metadata.creationTimestamp = '2000-01-01T00:00:00Z';
        object.metadata.deletionTimestamp = '2000-01-01T00:00:00Z';
        object.metadata.generation = 99;
      });
      expect(changed.metadata).to.deep.equal(made.metadata);
    });

    it('patches against the object as it is', () => {
      const store = newStore();
      store.create(configMaps, { metadata: { ...REF }, data: { a: '1', b: '2' } });
      store.patch(configMaps, REF, { type: 'merge', body: { data: { a: null } } });
      store.patch(configMaps, REF, { type: 'json', body: [{ op: 'add', path: '/data/c', value: '3' }] });
      expect(store.get(configMaps, REF)?.data).to.deep.equal({ b: '2', c: '3' });
      const stale = { type: 'merge', body: { metadata: { resourceVersion: '1' } } } as const;
      expect(refusal(() => store.patch(configMaps, REF, stale)).code).to.equal(409);
    });
  });

  describe('delete', () => {
    it('waits for the last finalizer', () => {
      const store = newStore();
      store.create(configMaps, { metadata: { ...REF, finalizers: ['x/a', 'x/b'] } });
      expect(store.delete(configMaps, REF).gone).to.equal(false);
      expect(store.get(configMaps, REF)?.metadata.deletionTimestamp).to.be.a('string');
      const without = (gone: string) => (object: KubeObject) => {
        object.metadata.finalizers = object.metadata.finalizers?.filter((finalizer) => finalizer !== gone) ?? [];
        return undefined;
      };
      store.modify(configMaps, REF, without('x/a'));
      expect(store.get(configMaps, REF)).to.not.equal(undefined);
      store.modify(configMaps, REF, without('x/b'));
      expect(store.get(configMaps, REF)).to.equal(undefined);
    });

    it('refuses new finalizers on what is being deleted', () => {
      const store = newStore();
      store.create(configMaps, { metadata: { ...REF, finalizers: ['x/a'] } });
      store.delete(configMaps, REF);
      const error = refusal(() =>
        store.patch(configMaps, REF, { type: 'merge', body: { metadata: { finalizers: ['x/b'] } } }),
      );
      expect(error.message).to.contain('no new finalizers can be added if the object is being deleted');
    });

    it('checks preconditions', () => {
      const store = newStore();
      const { metadata } = store.create(configMaps, { metadata: { ...REF } });
      for (const preconditions of [{ uid: 'other' }, { resourceVersion: '1' }])
        expect(refusal(() => store.delete(configMaps, REF, { preconditions })).code).to.equal(409);
      const preconditions = { uid: metadata.uid!, resourceVersion: metadata.resourceVersion! };
      expect(store.delete(configMaps, REF, { preconditions }).gone).to.equal(true);
      expect(refusal(() => store.delete(configMaps, REF)).message).to.equal('configmaps "a" not found');
    });

    it('gives pods on a node their grace period, and the kubelet the last word', () => {
      const store = newStore();
      store.create(nodes, { metadata: { name: 'n' } });
      const spec = { containers: [{ name: 'c', image: 'i' }], terminationGracePeriodSeconds: 7 };
      store.create(pods, { metadata: { ...REF }, spec });
      expect(store.delete(pods, REF).gone).to.equal(true);
      store.create(pods, { metadata: { ...REF }, spec: { ...spec, nodeName: 'n' } });
      const { object, gone } = store.delete(pods, REF);
      expect(gone).to.equal(false);
      expect(object.metadata.deletionGracePeriodSeconds).to.equal(7);
      const { resourceVersion } = store;
      store.delete(pods, REF, { gracePeriodSeconds: 30 });
      expect(store.resourceVersion).to.equal(resourceVersion, 'a longer grace period changes nothing');
      expect(store.delete(pods, REF, { gracePeriodSeconds: 0 }).gone).to.equal(true);
    });
  });

  describe('watch', () => {
    it('starts with what is there, and tells of every change in order', async () => {
      const store = newStore();
      store.create(configMaps, { metadata: { ...REF } });
      const events = seen(store, configMaps);
      store.create(configMaps, { metadata: { namespace: 'default', name: 'b' } });
      store.modify(configMaps, REF, (object) => ({ ...object, data: { x: '1' } }));
      expect(events).to.deep.equal([], 'nothing is told from inside a write');
      store.delete(configMaps, REF);
      expect((await delivered(events)).map(short)).to.deep.equal(['ADDED a', 'ADDED b', 'MODIFIED a', 'DELETED a']);
      expect(events.at(-1)?.object.metadata.resourceVersion).to.equal(store.resourceVersion);
    });

    it('goes on from a resourceVersion', async () => {
      const store = newStore();
      store.create(configMaps, { metadata: { ...REF } });
      const from = store.resourceVersion;
      store.create(configMaps, { metadata: { namespace: 'default', name: 'b' } });
      expect((await delivered(seen(store, configMaps, from))).map(short)).to.deep.equal(['ADDED b']);
    });

    it('shows objects come and go as they begin and cease to be selected', async () => {
      const store = newStore();
      store.create(configMaps, { metadata: { ...REF } });
      const events = seen(store, configMaps, undefined, 'on=yes');
      for (const on of ['yes', 'yes', 'no'])
        store.patch(configMaps, REF, { type: 'merge', body: { metadata: { labels: { on } }, data: { n: on } } });
      store.patch(configMaps, REF, { type: 'merge', body: { metadata: { labels: { on: 'yes' } } } });
      store.delete(configMaps, REF);
      const types = (await delivered(events)).map(({ type }) => type);
      expect(types).to.deep.equal(['ADDED', 'DELETED', 'ADDED', 'DELETED']);
    });

    it('refuses what the history forgot with 410', () => {
      const store = newStore();
      const from = store.resourceVersion;
      for (let n = 0; n < 2000; n++) store.modify(namespaces, { name: 'default' }, (object) => label(object, n));
      expect(refusal(() => store.watch(namespaces, { fromResourceVersion: from }, () => {})).code).to.equal(410);
      const error = refusal(() => store.watch(namespaces, { fromResourceVersion: '999999' }, () => {}));
      expect(error.reason).to.equal('Expired');
    });

    it('ends when it is told to, also for what is on its way', async () => {
      const store = newStore();
      const events: unknown[] = [];
      const stop = store.watch(configMaps, {}, (event) => events.push(event));
      store.create(configMaps, { metadata: { ...REF } });
      stop();
      expect(await delivered(events)).to.deep.equal([]);
    });

    it('survives a listener that throws or writes', async () => {
      const store = newStore();
      store.watch(configMaps, {}, () => {
        throw new Error('broken');
      });
      store.watch(configMaps, {}, ({ type, object }) => {
        if (type === 'ADDED') store.delete(configMaps, object.metadata);
      });
      const events = seen(store, configMaps);
      store.create(configMaps, { metadata: { ...REF } });
      expect((await delivered(events)).map(short)).to.deep.equal(['ADDED a', 'DELETED a']);
    });
  });

  describe('restart', () => {
    let directory = '';
    beforeEach(() => {
      directory = mkdtempSync(join(tmpdir(), 'store-'));
    });
    afterEach(() => rmSync(directory, { recursive: true }));

    it('has everything again, counts on, and tells old watches 410', () => {
      const first = newStore(directory);
      first.create(configMaps, { metadata: { ...REF }, data: { x: '1' } });
      const old = first.resourceVersion;
      first.delete(configMaps, REF);
      first.create(configMaps, { metadata: { ...REF }, data: { x: '2' } });
      const { resourceVersion } = first;
      first.close();
      const second = newStore(directory);
      expect(second.get(configMaps, REF)?.data).to.deep.equal({ x: '2' });
      expect(second.resourceVersion).to.equal(resourceVersion);
      expect(refusal(() => second.watch(configMaps, { fromResourceVersion: old }, () => {})).code).to.equal(410);
      second.watch(configMaps, { fromResourceVersion: resourceVersion }, () => {});
      second.close();
    });
  });
});

function label<T extends KubeObject>(object: T, n: number): T {
  return { ...object, metadata: { ...object.metadata, labels: { ...object.metadata.labels, n: String(n) } } };
}
