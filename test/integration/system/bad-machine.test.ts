/** What the long-running commands say where they cannot run: one line, an exit code, and nothing left behind. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { expectNoLeaks } from '../../support/leaks.ts';
import { fuse, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('a machine that is not as it should be', () => {
  let folder: string;
  let kubeconfig: string;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'union-machine-'));
    kubeconfig = join(folder, 'kubeconfig');
    const cluster = { clusters: [{ name: 'c', cluster: { server: 'http://127.0.0.1:1' } }] };
    const context = { contexts: [{ name: 'x', context: { cluster: 'c', user: '' } }], 'current-context': 'x' };
    writeFileSync(kubeconfig, JSON.stringify({ ...cluster, ...context }), { mode: 0o644 });
  });

  afterEach(async () => {
    await expectNoLeaks(folder);
    rmSync(folder, { recursive: true });
  });

  const commands = () => ({
    cluster: ['cluster', '--dir', join(folder, 'cluster')],
    node: [
      ...['node', '--node-name', 'node-1', '--kubelet-dir', folder, '--kubeconfig', kubeconfig],
      ...['--csi-endpoint', `unix://${folder}/csi.sock`],
    ],
    controller: ['controller', '--kubeconfig', kubeconfig, '--csi-endpoint', `unix://${folder}/csi.sock`],
  });

  /** Runs to its end: the last line of what it said, and its exit code. */
  function run(command: readonly string[], wrapper: readonly string[] = []) {
    const [file, ...args] = [...wrapper, program, ...command];
    const { stderr, status } = spawnSync(file!, args, { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' });
    return { message: stderr.trimEnd().split('\n').at(-1), status };
  }

  const notRoot = ['setpriv', '--reuid=65534', '--clear-groups'];
  const noFuse = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec "$0" "$@"'];

  it('cluster, node: not root', () => {
    expect(run(commands().cluster, notRoot)).to.deep.equal({
      message: 'union-csi cluster: the embedded cluster mounts filesystems, which needs root; run it with sudo',
      status: 1,
    });
    expect(run(commands().node, notRoot)).to.deep.equal({
      message: 'union-csi node: mounting needs root; run it with sudo',
      status: 1,
    });
    expect(readdirSync(folder)).to.deep.equal(['kubeconfig']);
  });

  it('cluster, node: no /dev/fuse', () => {
    expect(run(commands().cluster, noFuse)).to.deep.equal({
      message: 'union-csi cluster: /dev/fuse is missing: this kernel has no FUSE, or the container was not given it',
      status: 1,
    });
    expect(run(commands().node, noFuse)).to.deep.equal({
      message: 'union-csi node: /dev/fuse is missing; load the kernel module with modprobe fuse',
      status: 1,
    });
    expect(readdirSync(folder)).to.deep.equal(['kubeconfig']);
  });

  it('cluster, node, controller: a port in use', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    try {
      const ended = (name: string, flag: string) => run([...commands()[name as 'cluster'], flag, String(port)]);
      const message = `port ${port} of 127.0.0.1 is in use; end the program that listens there, or choose another`;
      expect(ended('cluster', '--port').message).to.include(`union-csi cluster: ${message}`);
      for (const name of ['node', 'controller']) {
        const { message: said, status } = ended(name, '--metrics-port');
        expect(said).to.match(
          new RegExp(
            `cannot serve metrics on port ${port}: .*address already in use.*; choose another --metrics-port$`,
          ),
        );
        expect(status).to.equal(1);
      }
    } finally {
      other.close();
    }
    expect(existsSync(join(folder, 'csi.sock'))).to.equal(false);
  });

  it('node, controller: a socket in use', async () => {
    const socket = join(folder, 'csi.sock');
    const other = createServer().listen(socket);
    await once(other, 'listening');
    try {
      for (const command of ['node', 'controller'] as const) {
        expect(run(commands()[command])).to.deep.equal({
          message: `union-csi ${command}: socket ${socket} is in use by another process; stop it or choose another endpoint`,
          status: 1,
        });
      }
      expect(other.listening).to.equal(true);
    } finally {
      other.close();
    }
  });

  it('node, controller: a kubeconfig with a YAML syntax error', () => {
    writeFileSync(kubeconfig, 'clusters:\n- name: c\n  cluster: {server: x\nusers: []\n');
    for (const command of ['node', 'controller'] as const) {
      const { message, status } = run(commands()[command]);
      expect(message).to.match(new RegExp(`^union-csi ${command}: .*kubeconfig.*line 4, column 1$`));
      expect(status).to.equal(1);
    }
  });
});
