/** Repositories against the embedded API server, and what they make of answers that it never gives. */
import { expect } from 'chai';
import type { UnionError } from '../../../src/base/errors.ts';
import { PERSISTENT_VOLUME_CLAIM, UNION_VOLUME } from '../../../src/kubernetes/kinds.ts';
import { createRepository, type Repository } from '../../../src/kubernetes/repository.ts';
import type { PersistentVolumeClaim } from '../../../src/protocol/objects.ts';
import { json, startScriptedApi } from '../../support/api-fake.ts';
import { type ControlPlane, startControlPlane } from '../../support/control-plane.ts';

const claim = (name: string): PersistentVolumeClaim => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name, namespace: 'default', labels: { color: name } },
  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, storageClassName: 'none' },
});

describe('repository', () => {
  let plane: ControlPlane;
  let claims: Repository<PersistentVolumeClaim>;
  const { signal } = new AbortController();

  before(async () => {
    plane = await startControlPlane();
    claims = createRepository(plane.client, PERSISTENT_VOLUME_CLAIM);
  });
  after(() => plane.close());

  async function created(name: string): Promise<PersistentVolumeClaim> {
    const result = await claims.create(claim(name), signal);
    if (!result.ok) throw new Error(result.error.message);
    return result.value;
  }

  it('creates, reads and lists; what is absent is undefined', async () => {
    await created('a');
    expect((await claims.get({ namespace: 'default', name: 'a' }, signal))?.spec?.storageClassName).to.equal('none');
    expect(await claims.get({ namespace: 'default', name: 'nope' }, signal)).to.equal(undefined);
    await created('b');
    const found = await claims.list({ namespace: 'default', labelSelector: 'color=b' }, signal);
    expect(found.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).to.deep.equal(['PersistentVolumeClaim b']);
  });

  it('tells a name that is taken from a race that was lost', async () => {
    const first = await created('c');
    const taken = await claims.create(claim('c'), signal);
    expect(!taken.ok && taken.error.kind).to.equal('ALREADY_EXISTS');
    const labels = { color: 'changed' };
    const changed = await claims.update({ ...first, metadata: { ...first.metadata, labels } }, signal);
    expect(changed.ok).to.equal(true);
    const late = await claims.update(first, signal);
    expect(!late.ok && late.error.kind).to.equal('CONFLICT');
  });

  it('patches as a compare-and-swap when told a version, removes with null, and leaves status alone', async () => {
    const { metadata } = await created('d');
    const stale = { metadata: { resourceVersion: '1', labels: { color: null } } };
    const lost = await claims.patchMerge(metadata, stale, signal);
    expect(!lost.ok && lost.error.kind).to.equal('CONFLICT');
    const done = await claims.patchMerge(metadata, { metadata: { labels: { color: null, size: 'l' } } }, signal);
    expect(done.ok && done.value.metadata.labels).to.deep.equal({ size: 'l' });
    const status = await claims.patchStatusMerge(metadata, { status: { phase: 'Lost' } }, signal);
    expect(status.ok && status.value.status?.phase).to.equal('Lost');
    const gone = await claims.patchMerge({ namespace: 'default', name: 'nope' }, {}, signal);
    expect(!gone.ok && gone.error.kind).to.equal('NOT_FOUND');
  });

  it('deletes only the object that was meant; one that is gone is deleted', async () => {
    const { metadata } = await created('e');
    const other = await claims.delete(metadata, { uid: '00000000-0000-0000-0000-000000000000' }, signal);
    expect(!other.ok && other.error.kind).to.equal('CONFLICT');
    expect((await claims.delete(metadata, { uid: metadata.uid }, signal)).ok).to.equal(true);
    expect((await claims.delete({ namespace: 'default', name: 'nope' }, {}, signal)).ok).to.equal(true);
  });

  it('never builds a path out of a name', async () => {
    const volumes = createRepository(plane.client, UNION_VOLUME);
    for (const name of ['../../../api/v1/nodes/node-a', 'a/status', '?watch=true', '..']) {
      expect(await volumes.get({ name }, signal)).to.equal(undefined);
    }
  });

  const failures: readonly [number, object, string, RegExp][] = [
    [403, { message: 'exceeded quota: gold' }, 'PERMISSION_DENIED', /^POST \/api\/v1\/.*: exceeded quota: gold$/],
    [422, { message: 'spec.size is wrong' }, 'INVALID_ARGUMENT', /spec\.size is wrong$/],
    [503, {}, 'UNAVAILABLE', /HTTP status 503$/],
  ];
  for (const [status, body, code, message] of failures) {
    it(`throws ${code} on ${status}, with what the server says`, async () => {
      const api = await startScriptedApi(({ response }) => json(response, status, body));
      try {
        const repository = createRepository(api.client, PERSISTENT_VOLUME_CLAIM);
        const error = await repository.create(claim('x'), signal).catch((thrown: UnionError) => thrown);
        expect((error as UnionError).code).to.equal(code);
        expect((error as UnionError).message).to.match(message);
        expect(api.calls[0]!.headers.authorization).to.equal('Bearer secret');
      } finally {
        await api.close();
      }
    });
  }

  it('throws UNAVAILABLE when the server cannot be reached, and the reason of a signal that aborts', async () => {
    const stop = new AbortController();
    const api = await startScriptedApi(() => stop.abort(new Error('enough')));
    const repository = createRepository(api.client, PERSISTENT_VOLUME_CLAIM);
    const aborted = await repository.list({}, stop.signal).catch((error: Error) => error);
    expect((aborted as Error).message).to.equal('enough');
    await api.close();
    const error = await repository.list({}, signal).catch((thrown: UnionError) => thrown);
    expect((error as UnionError).code).to.equal('UNAVAILABLE');
    expect((error as UnionError).message).to.match(/^cannot reach the API server at http:\/\/127\.0\.0\.1:\d+: /);
  });
});
