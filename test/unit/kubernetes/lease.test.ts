/** Leader election between two candidates over the embedded API server, under a fake clock. */
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { leases } from '../../../src/embedded/api-server/kinds.ts';
import { LEASE } from '../../../src/kubernetes/kinds.ts';
import { runAsLeader } from '../../../src/kubernetes/lease.ts';
import { createRepository } from '../../../src/kubernetes/repository.ts';
import { type ControlPlane, startControlPlane } from '../../support/control-plane.ts';
import { FakeClock, until } from '../../support/fake-clock.ts';

describe('runAsLeader', () => {
  let plane: ControlPlane;
  const ref = { namespace: 'union-csi', name: 'test' };

  beforeEach(async () => {
    plane = await startControlPlane();
  });
  afterEach(() => plane.close());

  function candidate(identity: string) {
    const clock = new FakeClock();
    const stop = new AbortController();
    const state = { leads: false, clock, stop, ended: Promise.resolve() as Promise<unknown> };
    const election = { leases: createRepository(plane.client, LEASE), ...ref, identity, log: silentLogger, clock };
    const lead = async (signal: AbortSignal) => {
      state.leads = true;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      state.leads = false;
    };
    state.ended = runAsLeader(election, lead, stop.signal).then(
      () => 'ended',
      (error: Error) => error.message,
    );
    return state;
  }

  const holder = () => plane.store.get(leases, ref)?.spec?.holderIdentity;
  const renewed = () => plane.store.get(leases, ref)?.spec?.renewTime;

  it('lets one lead, and the next at once when the first ends well', async () => {
    const one = candidate('one');
    await until(() => one.leads);
    const two = candidate('two');
    await until(() => two.clock.sleepers === 1);
    expect([holder(), two.leads]).to.deep.equal(['one', false]);
    one.stop.abort();
    expect(await one.ended).to.equal('ended');
    expect(holder()).to.equal('');
    await two.clock.advance(2000);
    await until(() => two.leads);
    expect(plane.store.get(leases, ref)?.spec?.leaseTransitions).to.equal(1);
    two.stop.abort();
    await two.ended;
  });

  it('takes over from a leader that no longer renews, and not before its lease has run out', async () => {
    const one = candidate('one');
    await until(() => one.leads);
    const two = candidate('two');
    await until(() => two.clock.sleepers === 1);
    for (let seconds = 0; seconds < 14; seconds += 2) {
      await two.clock.advance(2000);
      await until(() => two.clock.sleepers === 1);
    }
    expect(two.leads).to.equal(false);
    await two.clock.advance(2000);
    await until(() => two.leads);
    // The first wakes up, sees that it was replaced, and ends its work.
    await one.clock.advance(2000);
    expect(await one.ended).to.match(/^leadership was lost/);
    expect([one.leads, holder()]).to.deep.equal([false, 'two']);
    two.stop.abort();
    await two.ended;
  });

  it('renews while it leads, in the only time format that Lease takes', async () => {
    const one = candidate('one');
    await until(() => one.leads && one.clock.sleepers === 1);
    const before = renewed();
    await one.clock.advance(2000);
    await until(() => renewed() !== before);
    expect(renewed()).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    one.stop.abort();
    await one.ended;
  });

  it('gives up leading when the API server does not answer for too long', async () => {
    const one = candidate('one');
    await until(() => one.leads && one.clock.sleepers === 1);
    plane.client.close();
    const { url } = plane;
    await plane.close();
    for (let seconds = 0; seconds < 14 && one.leads; seconds += 2) {
      await one.clock.advance(2000);
      await until(() => one.clock.sleepers === 1 || !one.leads);
    }
    expect(await one.ended).to.match(/^leadership was lost/);
    plane = await startControlPlane();
    expect(plane.url).not.to.equal(url);
  });
});
