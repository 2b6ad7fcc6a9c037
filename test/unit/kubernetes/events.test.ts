/** Events: one object for what is said again and again. */
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { events } from '../../../src/embedded/api-server/kinds.ts';
import { createEventRecorder } from '../../../src/kubernetes/events.ts';
import { EVENT } from '../../../src/kubernetes/kinds.ts';
import { createRepository } from '../../../src/kubernetes/repository.ts';
import { startScriptedApi } from '../../support/api-fake.ts';
import { type ControlPlane, startControlPlane } from '../../support/control-plane.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const subject = { apiVersion: 'union.csi.dev/v1alpha1', kind: 'UnionVolume', name: 'uv-1', uid: 'u-1' };
const text = { type: 'Warning', reason: 'Lost', message: 'branch b1: its claim is gone' } as const;

describe('event recorder', () => {
  let plane: ControlPlane;
  const { signal } = new AbortController();
  beforeEach(async () => {
    plane = await startControlPlane();
  });
  afterEach(() => plane.close());

  function recorder(clock: FakeClock) {
    return createEventRecorder({
      events: createRepository(plane.client, EVENT),
      ...{ component: 'union-csi-controller', log: silentLogger, clock },
    });
  }

  it('counts the same event, at most every so often, also after a restart', async () => {
    const clock = new FakeClock();
    const first = recorder(clock);
    await first.emit(subject, text, signal);
    await first.emit(subject, text, signal);
    const [written] = plane.store.list(events);
    expect(written?.count).to.equal(1);
    expect(written?.metadata.namespace).to.equal('default');
    expect(written?.involvedObject).to.deep.equal(subject);
    await clock.advance(60_000);
    await recorder(clock).emit(subject, text, signal);
    expect(plane.store.list(events).map(({ count }) => count)).to.deep.equal([2]);
    await first.emit(subject, { ...text, message: 'another' }, signal);
    expect(plane.store.list(events)).to.have.length(2);
  });

  it('is silent about events that cannot be written', async () => {
    const api = await startScriptedApi(({ response }) => response.socket!.destroy());
    const broken = createRepository(api.client, EVENT);
    await createEventRecorder({ events: broken, component: 'x', log: silentLogger }).emit(subject, text, signal);
    await api.close();
  });
});
