import { expect } from 'chai';
import type { ContainerRun } from '../../../../src/embedded/kubelet/container.ts';
import { nextStep, podStatus } from '../../../../src/embedded/kubelet/pod-status.ts';
import type { Pod } from '../../../../src/protocol/objects.ts';

const now = 1_700_000_000_000;

function exited(exitCode: number, restart = 0, ranMs = 10): ContainerRun {
  return { kind: 'exited', directory: `/c/${restart}-ab`, restart, exitCode, startedAt: now - ranMs, finishedAt: now };
}

const running: ContainerRun = {
  ...{ kind: 'running', directory: '/c/0-ab', restart: 0, init: { pid: 1, startTime: '1' }, startedAt: now },
};

function pod(restartPolicy: string, names = ['main']): Pod {
  const containers = names.map((name) => ({ name, image: 'host' }));
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { restartPolicy, containers } };
}

const phaseOf = (of: Pod, ...runs: (ContainerRun | undefined)[]) =>
  podStatus(of, { now, runs: new Map(of.spec!.containers.map(({ name }, index) => [name, runs[index]])) }).phase;

describe('nextStep', () => {
  it('starts what never ran, and leaves alone what runs', () => {
    expect(nextStep(undefined, 'Never', now)).to.deep.equal({ kind: 'start', restart: 0 });
    expect(nextStep(running, 'Always', now)).to.deep.equal({ kind: 'none' });
  });

  it('restarts as the policy says', () => {
    expect(nextStep(exited(0), 'Always', now)).to.deep.equal({ kind: 'start', restart: 1 });
    expect(nextStep(exited(0), 'OnFailure', now)).to.deep.equal({ kind: 'none' });
    expect(nextStep(exited(1), 'OnFailure', now)).to.deep.equal({ kind: 'start', restart: 1 });
    expect(nextStep(exited(1), 'Never', now)).to.deep.equal({ kind: 'none' });
  });

  it('waits twice as long before each further restart, up to a limit, and not after a healthy run', () => {
    expect(nextStep(exited(1, 1), 'Always', now)).to.deep.equal({ kind: 'start-later', inMs: 1000 });
    expect(nextStep(exited(1, 3), 'Always', now)).to.deep.equal({ kind: 'start-later', inMs: 4000 });
    expect(nextStep(exited(1, 99), 'Always', now)).to.deep.equal({ kind: 'start-later', inMs: 30_000 });
    expect(nextStep(exited(1, 3), 'Always', now + 4000)).to.deep.equal({ kind: 'start', restart: 4 });
    expect(nextStep(exited(1, 9, 60_000), 'Always', now)).to.deep.equal({ kind: 'start', restart: 10 });
  });
});

describe('podStatus', () => {
  it('tells the phase from all containers', () => {
    expect(phaseOf(pod('Always'), undefined)).to.equal('Pending');
    expect(phaseOf(pod('Always'), running)).to.equal('Running');
    expect(phaseOf(pod('Always'), exited(1))).to.equal('Running');
    expect(phaseOf(pod('Never'), exited(0))).to.equal('Succeeded');
    expect(phaseOf(pod('Never', ['a', 'b']), exited(0), exited(3))).to.equal('Failed');
    expect(phaseOf(pod('Never', ['a', 'b']), exited(0), running)).to.equal('Running');
  });

  it('is the same however often it is told the same, at whatever time', () => {
    const facts = { runs: new Map([['main', running]]), now };
    const first = podStatus(pod('Always'), facts);
    expect(podStatus({ ...pod('Always'), status: first }, { ...facts, now: now + 5000 })).to.deep.equal(first);
  });
});
