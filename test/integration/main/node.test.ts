/** The process `union-csi node` as kubelet sees it: registration, CSI socket, end. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { credentials, Metadata } from '@grpc/grpc-js';
import { expect } from 'chai';
import { loadCsi, loadRegistration } from '../../../src/protocol/proto.ts';
import { killed, until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('union-csi node', () => {
  let folder: string;
  let csiSocket: string;
  let registrationSocket: string;
  let child: ChildProcess | undefined;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'union-node-'));
    csiSocket = join(folder, 'plugins', 'union.csi.dev', 'csi.sock');
    registrationSocket = join(folder, 'plugins_registry', 'union.csi.dev-reg.sock');
    const cluster = { clusters: [{ name: 'c', cluster: { server: 'http://127.0.0.1:1' } }] };
    const context = { contexts: [{ name: 'x', context: { cluster: 'c', user: '' } }], 'current-context': 'x' };
    writeFileSync(join(folder, 'kubeconfig'), JSON.stringify({ ...cluster, ...context }));
  });

  afterEach(async () => {
    if (child) await killed(child);
    rmSync(folder, { recursive: true });
  });

  const args = () => [
    ...['node', '--node-name', 'node-1', '--kubelet-dir', folder],
    ...['--csi-endpoint', `unix://${csiSocket}`, '--kubeconfig', join(folder, 'kubeconfig')],
  ];

  it('registers itself with kubelet, serves CSI, and removes its sockets at SIGTERM', async () => {
    child = spawn(program, args(), { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr!.resume();
    await until(() => existsSync(registrationSocket));
    expect(await registrationInfo(registrationSocket)).to.deep.equal({
      type: 'CSIPlugin',
      name: 'union.csi.dev',
      endpoint: csiSocket,
      supportedVersions: ['1.0.0'],
    });
    expect(await nodeId(csiSocket)).to.equal('node-1');
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).to.deep.equal([0, null]);
    expect(readdirSync(join(folder, 'plugins_registry'))).to.deep.equal([]);
    expect(existsSync(csiSocket)).to.equal(false);
  });

  it('says what is wrong with its command line', () => {
    const run = (...flags: string[]) => spawnSync(program, ['node', ...flags], { encoding: 'utf8' });
    expect(run()).to.include({ status: 2, stderr: 'union-csi node: --node-name is missing; see --help\n' });
    expect(run('--node-nam', 'x')).to.include({
      status: 2,
      stderr: 'union-csi node: unknown flag --node-nam; did you mean --node-name?\n',
    });
    const port = run('--node-name', 'x', '--csi-endpoint', 'unix:///x', '--metrics-port', '99999');
    expect(port).to.include({
      status: 2,
      stderr: 'union-csi node: --metrics-port 99999 is not a port; write a number from 0 to 65535\n',
    });
  });
});

function registrationInfo(socket: string): Promise<unknown> {
  const client = new (loadRegistration().Registration)(`unix://${socket}`, credentials.createInsecure());
  // Its file is there from bind(2) on, a moment before it listens; kubelet waits as well.
  const patient = new Metadata({ waitForReady: true });
  return new Promise((resolve, reject) => {
    client.getInfo({}, patient, { deadline: Date.now() + 10_000 }, (error, info) => {
      client.close();
      if (error) reject(error);
      else resolve(info);
    });
  });
}

function nodeId(socket: string): Promise<string | undefined> {
  const client = new (loadCsi().Node)(`unix://${socket}`, credentials.createInsecure());
  return new Promise((resolve, reject) => {
    client.nodeGetInfo({}, (error, info) => {
      client.close();
      if (error) reject(error);
      else resolve(info?.nodeId);
    });
  });
}
