/** The informer against a scripted server that hangs, disconnects, forgets versions and loses events. */
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { createInformer, type Informer } from '../../../src/kubernetes/informer.ts';
import { NODE } from '../../../src/kubernetes/kinds.ts';
import type { Node } from '../../../src/protocol/objects.ts';
import { json, type ScriptedApi, type ScriptedCall, startScriptedApi, watchEvents } from '../../support/api-fake.ts';
import { until } from '../../support/fake-clock.ts';

const node = (name: string, resourceVersion: string) => ({ metadata: { name, resourceVersion } });
const list = (resourceVersion: string, ...items: object[]) => ({ metadata: { resourceVersion }, items });

describe('informer', () => {
  let api: ScriptedApi;
  let stop: AbortController;
  let running: Promise<void>;
  let informer: Informer<Node>;
  let heard: string[];

  async function start(answer: (call: ScriptedCall, index: number) => void, silenceLimitMs = 5000) {
    api = await startScriptedApi(answer);
    stop = new AbortController();
    const options = { client: api.client, kind: NODE, log: silentLogger, random: () => 0, silenceLimitMs };
    informer = createInformer(options);
    heard = [];
    informer.onChange(({ kind, key, object }) => heard.push(`${kind} ${key} ${object.metadata.resourceVersion}`));
    running = informer.start(stop.signal);
  }

  afterEach(async () => {
    stop.abort();
    await running;
    await api.close();
  });

  const watches = () => api.calls.filter(({ query }) => query.get('watch') === 'true');
  const lists = () => api.calls.filter(({ query }) => query.get('watch') !== 'true');

  it('lists, then watches from there, and tells what changes', async () => {
    await start(({ query, response }) => {
      if (query.get('watch') !== 'true') return json(response, 200, list('10', node('a', '3'), node('b', '4')));
      watchEvents(
        response,
        { type: 'ADDED', object: node('c', '11') },
        { type: 'MODIFIED', object: node('a', '12') },
        { type: 'DELETED', object: node('b', '13') },
      );
    });
    await until(() => heard.length === 5);
    expect(heard).to.deep.equal(['added a 3', 'added b 4', 'added c 11', 'modified a 12', 'deleted b 13']);
    expect(informer.list().map(({ metadata, kind }) => `${kind} ${metadata.name}`)).to.deep.equal(['Node a', 'Node c']);
    expect(watches()[0]!.query.get('resourceVersion')).to.equal('10');
    expect(watches()[0]!.query.get('allowWatchBookmarks')).to.equal('true');
  });

  it('goes on where it was when the server ends or breaks a watch, without a new list', async () => {
    await start(({ query, response }) => {
      if (query.get('watch') !== 'true') return json(response, 200, list('10'));
      const from = query.get('resourceVersion');
      if (from === '10') {
        watchEvents(response, { type: 'ADDED', object: node('a', '11') });
        response.end();
      } else if (from === '11') {
        watchEvents(response, { type: 'BOOKMARK', object: { metadata: { resourceVersion: '20' } } });
        setImmediate(() => response.destroy());
      } else watchEvents(response, { type: 'ADDED', object: node('b', '21') });
    });
    await until(() => informer.get('b') !== undefined);
    expect(watches().map(({ query }) => query.get('resourceVersion'))).to.deep.equal(['10', '11', '20']);
    expect(lists()).to.have.length(1);
  });

  for (const how of ['an error event', 'a status']) {
    it(`lists anew when its version is gone, told by ${how}, and tells what it missed`, async () => {
      await start(({ query, response }) => {
        if (query.get('watch') !== 'true') {
          const first = lists().length === 1;
          return json(response, 200, first ? list('10', node('a', '3'), node('b', '4')) : list('30', node('b', '25')));
        }
        if (query.get('resourceVersion') !== '10') return watchEvents(response);
        const gone = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
        if (how === 'a status') return json(response, 410, gone);
        watchEvents(response, { type: 'ERROR', object: gone });
      });
      await until(() => heard.length === 4);
      expect(heard).to.deep.equal(['added a 3', 'added b 4', 'modified b 25', 'deleted a 3']);
    });
  }

  it('takes a watch that is silent for too long for dead', async () => {
    await start(({ query, response }) => {
      if (query.get('watch') !== 'true') return json(response, 200, list('10'));
      if (watches().length === 1) return watchEvents(response);
      watchEvents(response, { type: 'ADDED', object: node('a', '11') });
    }, 100);
    await until(() => informer.get('a') !== undefined);
    expect(lists()).to.have.length(1);
  });

  it('keeps asking a server that is down or answers nonsense, and is synced when it comes back', async () => {
    await start(({ query, response }, index) => {
      if (index === 0) return void response.socket!.destroy();
      if (index === 1) return json(response, 500, { message: 'etcd is down' });
      if (index === 2) return json(response, 200, 'not a list');
      if (query.get('watch') !== 'true') return json(response, 200, list('10', node('a', '3')));
      watchEvents(response);
    });
    expect(informer.hasSynced).to.equal(false);
    await informer.synced(AbortSignal.timeout(60_000));
    expect(informer.get('a')?.metadata.resourceVersion).to.equal('3');
  });

  it('reads long lists in pages', async () => {
    await start(({ query, response }) => {
      if (query.get('watch') === 'true') return watchEvents(response);
      if (query.get('continue') === null) {
        return json(response, 200, { metadata: { resourceVersion: '10', continue: 'more' }, items: [node('a', '1')] });
      }
      json(response, 200, list('10', node('b', '2')));
    });
    await informer.synced(AbortSignal.timeout(60_000));
    expect(informer.list().map(({ metadata }) => metadata.name)).to.deep.equal(['a', 'b']);
  });

  it('goes on when a listener throws', async () => {
    await start(({ query, response }) => {
      if (query.get('watch') !== 'true') return json(response, 200, list('10', node('a', '3')));
      watchEvents(response);
    });
    informer.onChange(() => {
      throw new Error('listener');
    });
    await until(() => heard.length === 1);
    const late: string[] = [];
    informer.onChange(({ kind, key }) => late.push(`${kind} ${key}`));
    expect(late).to.deep.equal(['added a']);
  });
});
