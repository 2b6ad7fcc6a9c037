/** The dispatcher, by its process. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('union-csi', () => {
  it('lists its commands, on one screen', () => {
    const { status, stdout } = run('help');
    expect(status).to.equal(0);
    expect(stdout.split('\n').length).to.be.below(25);
    for (const command of ['mount', 'start', 'cluster', 'controller', 'node', 'server'])
      expect(stdout).to.include(command);
  });

  it('wants a command', () => {
    expect(run()).to.include({ status: 2 });
  });

  it('names the nearest command', () => {
    const message = 'union-csi: unknown command muont; did you mean mount?\n';
    expect(run('muont')).to.include({ status: 2, stderr: message });
  });

  it('tells the help of a command in both ways', () => {
    expect(run('help', 'mount').stdout).to.equal(run('mount', '--help').stdout);
  });

  it('says on one line what is wrong with a command line, and exits with 2', () => {
    const message = 'union-csi mount: unknown flag --foregrond; did you mean --foreground?\n';
    expect(run('mount', '--foregrond')).to.include({ status: 2, stderr: message });
  });
});

function run(...args: string[]) {
  return spawnSync(program, args, { encoding: 'utf8' });
}
