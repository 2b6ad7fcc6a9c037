/** Processes told apart by their start time. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import { isAlive, parseStartTime, processIdentity } from '../../../src/host/process-identity.ts';

describe('process identity', () => {
  it('reads the start time past any name', () => {
    const rest = Array.from({ length: 30 }, (_, index) => index + 4).join(' ');
    expect(parseStartTime(`12 (a) b (c)) S ${rest}`)).to.equal('22');
  });

  it('takes a zombie for ended', () => {
    expect(parseStartTime('12 (x) Z 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22')).to.equal(undefined);
  });

  it('knows a process while it runs, and not afterwards', async () => {
    const child = spawn('sleep', ['60']);
    const identity = processIdentity(child.pid!)!;
    expect(isAlive(identity)).to.equal(true);
    expect(isAlive({ ...identity, startTime: '1' })).to.equal(false);
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    expect(isAlive(identity)).to.equal(false);
  });
});
