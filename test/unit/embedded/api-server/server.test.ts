/** The wire protocol, as any HTTP client sees it. What kubectl makes of it is in test/integration/kubectl.test.ts. */
import { request } from 'node:http';
import { expect } from 'chai';
import { silentLogger } from '../../../../src/base/logger.ts';
import { configMaps, namespaces, nodes, pods } from '../../../../src/embedded/api-server/kinds.ts';
import type { LogRequest } from '../../../../src/embedded/api-server/pod-log.ts';
import { type ApiServer, startApiServer } from '../../../../src/embedded/api-server/server.ts';
import { Store } from '../../../../src/embedded/api-server/store.ts';

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const REF = { namespace: 'default', name: 'a' };

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: documents of many kinds, of which tests read single fields
  readonly body: any;
}

/** Reads a watch line by line. */
async function* events(response: Response): AsyncGenerator<Answer['body']> {
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (text + chunk).split('\n');
    text = lines.pop()!;
    for (const line of lines) yield JSON.parse(line);
  }
}

describe('startApiServer', () => {
  let store = new Store();
  let server: ApiServer;
  let logRequests: LogRequest[] = [];
  let aborter = new AbortController();

  beforeEach(async () => {
    store = new Store();
    logRequests = [];
    aborter = new AbortController();
    store.create(namespaces, { metadata: { name: 'default' } });
    async function* readLog(asked: LogRequest, signal: AbortSignal) {
      logRequests.push(asked);
      yield 'one\n';
      if (asked.follow) await new Promise((resolve) => signal.addEventListener('abort', resolve));
    }
    server = await startApiServer({ store, port: 0, readLog, log: silentLogger });
  });
  afterEach(async () => {
    aborter.abort();
    await server.close();
    store.close();
  });

  async function call(method: string, path: string, body?: unknown, type = 'application/json'): Promise<Answer> {
    const init = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': type } };
    const response = await fetch(server.url + path, { method, ...init });
    return { status: response.status, body: await response.json() };
  }

  const open = (path: string, headers: Record<string, string> = {}) =>
    fetch(server.url + path, { headers, signal: aborter.signal });

  /** What `fetch` would not send. */
  function statusOf(options: { path: string; headers?: Record<string, string> }): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      const sent = request({ ...options, host: '127.0.0.1', port: new URL(server.url).port }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject).end();
    });
  }

  it('tells what it serves', async () => {
    expect((await call('GET', '/version')).body.major).to.equal('1');
    expect((await call('GET', '/api')).body.versions).to.deep.equal(['v1']);
    const groups = (await call('GET', '/apis')).body.groups.map(({ name }: { name: string }) => name);
    expect(groups).to.include.members(['storage.k8s.io', 'coordination.k8s.io', 'apiextensions.k8s.io']);
    const { resources } = (await call('GET', '/api/v1')).body;
    expect(resources.map(({ name }: { name: string }) => name)).to.include.members(['pods', 'pods/status', 'pods/log']);
    expect((await call('GET', '/apis/storage.k8s.io')).body.preferredVersion.version).to.equal('v1');
    expect((await call('GET', '/apis/no.such.group')).status).to.equal(404);
    expect((await call('GET', '/openapi/v3')).body.paths).to.have.property('apis/storage.k8s.io/v1');
    expect(await (await open('/readyz')).text()).to.equal('ok');
  });

  it('creates, reads, replaces, patches and deletes', async () => {
    const created = await call('POST', CONFIG_MAPS, { metadata: { name: 'a' }, data: { x: '1' } });
    expect(created.status).to.equal(201);
    const path = `${CONFIG_MAPS}/a`;
    expect((await call('GET', path)).body).to.deep.equal(created.body);
    const replaced = await call('PUT', path, { ...created.body, data: { x: '2' } });
    expect(replaced.body.data).to.deep.equal({ x: '2' });
    const stale = await call('PUT', path, { ...created.body, data: { x: '3' } });
    expect(stale).to.deep.include({ status: 409 });
    expect(stale.body).to.deep.include({ kind: 'Status', reason: 'Conflict', code: 409 });
    const patched = await call('PATCH', path, { data: { y: '1' } }, 'application/strategic-merge-patch+json');
    expect(patched.body.data).to.deep.equal({ x: '2', y: '1' });
    expect((await call('PATCH', path, {}, 'application/apply-patch+yaml')).status).to.equal(415);
    const deleted = await call('DELETE', path, { preconditions: { uid: created.body.metadata.uid } });
    expect(deleted.body.status).to.equal('Success');
    expect((await call('GET', path)).body.message).to.equal('configmaps "a" not found');
  });

  it('deletes collections by label', async () => {
    for (const app of ['x', 'y'])
      store.create(configMaps, { metadata: { namespace: 'default', name: app, labels: { app } } });
    await call('DELETE', `${CONFIG_MAPS}?labelSelector=app%3Dx`);
    expect(store.list(configMaps).map(({ metadata }) => metadata.name)).to.deep.equal(['y']);
  });

  it('refuses what is no object, no JSON, too large, or in another namespace', async () => {
    expect((await call('POST', CONFIG_MAPS, [])).status).to.equal(400);
    const broken = await fetch(server.url + CONFIG_MAPS, {
      method: 'POST',
      body: '{',
      headers: { 'Content-Type': 'application/json' },
    });
    expect(broken.status).to.equal(400);
    const data = { x: 'x'.repeat(4 * 1024 * 1024) };
    expect((await call('POST', CONFIG_MAPS, { metadata: { name: 'a' }, data })).status).to.equal(413);
    const other = await call('POST', CONFIG_MAPS, { metadata: { name: 'a', namespace: 'other' } });
    expect(other.body.message).to.contain('does not match the namespace sent on the request');
    expect((await call('POST', '/healthz', {})).status).to.equal(404);
    expect((await call('PUT', CONFIG_MAPS, {})).status).to.equal(405);
    expect(await statusOf({ path: '//' })).to.equal(400);
    expect(await statusOf({ path: '/api/v1/namespaces/%zz/pods' })).to.equal(200);
  });

  it('watches from a resourceVersion, with bookmarks at the end of the beginning', async () => {
    store.create(configMaps, { metadata: { ...REF } });
    const response = await open(
      `${CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan`,
    );
    const stream = events(response);
    expect((await stream.next()).value).to.deep.include({ type: 'ADDED' });
    const bookmark = (await stream.next()).value;
    expect(bookmark.type).to.equal('BOOKMARK');
    expect(bookmark.object.metadata.annotations).to.deep.equal({ 'k8s.io/initial-events-end': 'true' });
    store.delete(configMaps, REF);
    expect((await stream.next()).value.type).to.equal('DELETED');
    const later = events(
      await open(`${CONFIG_MAPS}?watch=1&resourceVersion=${bookmark.object.metadata.resourceVersion}`),
    );
    expect((await later.next()).value.type).to.equal('DELETED');
  });

  it('ends a watch of forgotten times with 410', async () => {
    for (let n = 0; n < 2000; n++)
      store.patch(namespaces, { name: 'default' }, { type: 'merge', body: { metadata: { labels: { n: String(n) } } } });
    const stream = events(await open('/api/v1/namespaces?watch=true&resourceVersion=1'));
    expect((await stream.next()).value).to.deep.include({ type: 'ERROR' });
    expect((await stream.next()).done).to.equal(true);
  });

  it('ends a watch when its time is up', async () => {
    const stream = events(await open(`${CONFIG_MAPS}?watch=true&timeoutSeconds=1`));
    expect((await stream.next()).done).to.equal(true);
  });

  it('answers with tables, columns first in a watch', async () => {
    const headers = { Accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' };
    store.create(configMaps, { metadata: { ...REF } });
    const list = (await (await open(CONFIG_MAPS, headers)).json()) as Answer['body'];
    expect(list.kind).to.equal('Table');
    expect(list.rows[0].cells.slice(0, 2)).to.deep.equal(['a', 0]);
    const stream = events(await open(`${CONFIG_MAPS}?watch=true`, headers));
    expect((await stream.next()).value.object.columnDefinitions).to.have.length(3);
    store.modify(configMaps, REF, (object) => ({ ...object, data: { x: '1' } }));
    const second = (await stream.next()).value.object;
    expect(second.columnDefinitions).to.deep.equal([]);
    expect(second.rows[0].cells[1]).to.equal(1);
  });

  it('reads logs through what it was given', async () => {
    store.create(nodes, { metadata: { name: 'n' } });
    const containers = ['c', 'd'].map((name) => ({ name, image: 'i' }));
    store.create(pods, { metadata: { ...REF }, spec: { containers } });
    const path = '/api/v1/namespaces/default/pods/a/log';
    expect((await call('GET', path)).body.message).to.equal('pod a does not have a host assigned');
    store.patch(pods, REF, { type: 'merge', body: { spec: { nodeName: 'n' } } });
    expect((await call('GET', path)).body.message).to.contain('choose one of: [c d]');
    expect(await (await open(`${path}?container=d&tailLines=5`)).text()).to.equal('one\n');
    expect(logRequests[0]).to.deep.include({ pod: 'a', container: 'd', node: 'n', follow: false, tailLines: 5 });
    const following = (await open(`${path}?container=c&follow=true`)).body!.getReader();
    expect(Buffer.from((await following.read()).value!).toString()).to.equal('one\n');
  });

  it('is not for web pages', async () => {
    expect(await statusOf({ path: '/version' })).to.equal(200);
    expect(await statusOf({ path: '/version', headers: { Host: 'evil.example:80' } })).to.equal(403);
    expect(await statusOf({ path: '/version', headers: { Origin: 'http://evil.example' } })).to.equal(403);
  });

  it('names a port that is in use, and what to do', async () => {
    const port = Number(new URL(server.url).port);
    const readLog = () => (async function* () {})();
    try {
      await startApiServer({ store, port, readLog, log: silentLogger });
      expect.fail('started twice');
    } catch (error) {
      expect(String(error)).to.contain(
        `port ${port} of 127.0.0.1 is in use; end the program that listens there, or choose`,
      );
    }
  });
});
