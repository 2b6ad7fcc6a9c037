/** `union-csi controller` as a process of its own, over the embedded API server: starts, serves, ends, is killed, starts again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { credentials, type requestCallback, type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { persistentVolumeClaims, pods, unionVolumes } from '../../src/embedded/api-server/kinds.ts';
import type { CreateVolumeResponse__Output } from '../../src/protocol/generated/csi/v1/CreateVolumeResponse.ts';
import { loadCsi } from '../../src/protocol/proto.ts';
import { type ControlPlane, startControlPlane } from '../support/control-plane.ts';
import { until } from '../support/fake-clock.ts';
import { freePort } from '../support/free-port.ts';

const launcher = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const csi = loadCsi();
const capability = { mount: {}, accessMode: { mode: 'SINGLE_NODE_WRITER' } } as const;

describe('union-csi controller', () => {
  let plane: ControlPlane;
  let directory: string;
  let socket: string;
  const children: { readonly process: ChildProcess; stderr: string }[] = [];
  const clients: { close(): void }[] = [];

  beforeEach(async () => {
    plane = await startControlPlane();
    directory = mkdtempSync(join(tmpdir(), 'union-csi-controller-'));
    socket = join(directory, 'csi.sock');
    const kubeconfig = {
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      clusters: [{ name: 'test', cluster: { server: plane.url } }],
      users: [{ name: 'test', user: {} }],
    };
    writeFileSync(join(directory, 'kubeconfig'), JSON.stringify(kubeconfig));
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    for (const { process: child } of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await plane.close();
    rmSync(directory, { recursive: true });
  });

  function launch(...flags: string[]) {
    const args = ['controller', '--kubeconfig', join(directory, 'kubeconfig'), '--csi-endpoint', `unix://${socket}`];
    const child = spawn(launcher, [...args, ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
    const launched = { process: child, stderr: '' };
    child.stderr.on('data', (chunk) => {
      launched.stderr += chunk;
    });
    children.push(launched);
    return launched;
  }

  /** One call, repeated while the answer is that it is not so yet, or nobody listens. */
  async function call<Response>(make: (done: requestCallback<Response>) => void): Promise<Response> {
    for (const end = Date.now() + 15_000; ; ) {
      const answer = await new Promise<Response | ServiceError>((resolve) => {
        make((error, response) => resolve(error ?? response!));
      });
      if (!(answer instanceof Error)) return answer;
      const passing = answer.code === status.ABORTED || answer.code === status.UNAVAILABLE;
      if (!passing || Date.now() > end) throw answer;
    }
  }

  function connect(path = socket) {
    const options = { 'grpc.initial_reconnect_backoff_ms': 20, 'grpc.max_reconnect_backoff_ms': 50 };
    const client = new csi.Controller(`unix://${path}`, credentials.createInsecure(), options);
    clients.push(client);
    const deadline = () => ({ deadline: Date.now() + 5000 });
    const request = {
      name: 'pvc-1',
      capacityRange: { requiredBytes: String(2 ** 30) },
      volumeCapabilities: [capability],
      parameters: { lowerStorageClassName: 'plain', branches: '2' },
    };
    return {
      create: () => call<CreateVolumeResponse__Output>((done) => client.createVolume(request, deadline(), done)),
      publish: (volumeId: string) => {
        const published = { volumeId, nodeId: 'node-a', volumeCapability: capability };
        return call((done) => client.controllerPublishVolume(published, deadline(), done));
      },
      unpublish: (volumeId: string) =>
        call((done) => client.controllerUnpublishVolume({ volumeId, nodeId: 'node-a' }, deadline(), done)),
      remove: (volumeId: string) => call((done) => client.deleteVolume({ volumeId }, deadline(), done)),
    };
  }

  async function ended({ process: child }: { process: ChildProcess }): Promise<number | null> {
    return child.exitCode ?? (await once(child, 'exit'))[0];
  }

  it('serves a volume from create to delete, and ends cleanly on SIGTERM', async () => {
    const child = launch();
    const controller = connect();
    const { volume } = await controller.create();
    await controller.publish(volume!.volumeId);
    expect(plane.store.list(pods)[0]!.spec!.containers[0]!.image).to.match(/^union-csi:\d/);
    await controller.unpublish(volume!.volumeId);
    await controller.remove(volume!.volumeId);
    expect(plane.store.list(persistentVolumeClaims)).to.deep.equal([]);
    child.process.kill('SIGTERM');
    expect(await ended(child)).to.equal(0);
    expect(existsSync(socket)).to.equal(false);
    const lines = child.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.some(({ event, method, code }) => event === 'rpc' && method === 'CreateVolume' && code === 'OK')).to.be
      .true;
  });

  it('goes on after SIGKILL at any step, and leaves nothing', async () => {
    const controller = connect();
    const kill = async (child: ReturnType<typeof launch>) => {
      child.process.kill('SIGKILL');
      await ended(child);
    };
    let child = launch();
    plane.holdClaims = true;
    const creating = controller.create();
    await until(() => plane.store.list(persistentVolumeClaims).length > 0, 10_000);
    await kill(child);
    plane.holdClaims = false;
    plane.kick();
    child = launch();
    const id = (await creating).volume!.volumeId;

    plane.holdPods = true;
    const publishing = controller.publish(id);
    await until(() => plane.store.list(pods).length > 0, 10_000);
    await kill(child);
    plane.holdPods = false;
    plane.kick();
    child = launch();
    await publishing;

    plane.holdPodDeletion = true;
    const unpublishing = controller.unpublish(id);
    await until(() => plane.store.list(pods)[0]?.metadata.deletionTimestamp !== undefined, 10_000);
    await kill(child);
    plane.holdPodDeletion = false;
    plane.kick();
    child = launch();
    await unpublishing;

    const removing = controller.remove(id);
    await until(() => plane.store.list(unionVolumes)[0]?.metadata.deletionTimestamp !== undefined, 10_000);
    await kill(child);
    launch();
    await removing;
    expect([plane.store.list(unionVolumes), plane.store.list(persistentVolumeClaims)]).to.deep.equal([[], []]);
  });

  it('reconciles in one of two replicas; the other answers calls, and takes over', async () => {
    const first = launch('--leader-election');
    await until(() => first.stderr.includes('leader.elected'), 15_000);
    const other = join(directory, 'other.sock');
    const second = launch('--leader-election', '--csi-endpoint', other);
    const { volume } = await connect(other).create();
    expect(volume!.capacityBytes).to.equal(String(2 ** 30));
    expect(second.stderr).not.to.contain('leader.elected');
    first.process.kill('SIGTERM');
    expect(await ended(first)).to.equal(0);
    await connect(other).remove(volume!.volumeId);
    expect(second.stderr).to.contain('leader.elected');
  });

  it('serves health and metrics', async () => {
    const port = await freePort();
    launch('--metrics-port', String(port));
    await connect().create();
    const get = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).text();
    expect(await get('/healthz')).to.equal('ok\n');
    expect(await get('/readyz')).to.equal('ok\n');
    expect(await get('/metrics')).to.match(/union_csi_rpc_seconds_count\{method="CreateVolume",code="OK"\} 1/);
  });

  it('says in one line what keeps it from starting', async () => {
    const refused = async (pattern: RegExp, code: number, ...flags: string[]) => {
      const child = launch(...flags);
      expect(await ended(child)).to.equal(code);
      expect(child.stderr.trim().split('\n').at(-1)).to.match(pattern);
    };
    await refused(
      /^union-csi controller: unknown flag --metrics-prot; did you mean --metrics-port\?$/,
      2,
      '--metrics-prot=1',
    );
    await refused(/^union-csi controller: --metrics-port x is not a port/, 2, '--metrics-port', 'x');
    const other = createServer().listen(socket);
    await once(other, 'listening');
    await refused(/^union-csi controller: socket .* is in use by another process; stop it/, 1);
    await new Promise((resolve) => other.close(resolve));
    rmSync(join(directory, 'kubeconfig'));
    await refused(/^union-csi controller: kubeconfig .*: ENOENT/, 1);
  });
});
