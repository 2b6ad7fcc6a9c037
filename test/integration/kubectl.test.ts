/**
 * The real kubectl against the embedded API server. KUBECTL names another binary than the one on PATH, to try versions:
 * Debian's 1.20 and 1.32 are known to pass.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { silentLogger } from '../../src/base/logger.ts';
import {
  events,
  namespaces,
  nodes,
  persistentVolumeClaims,
  pods,
  unionVolumes,
} from '../../src/embedded/api-server/kinds.ts';
import { type ApiServer, startApiServer } from '../../src/embedded/api-server/server.ts';
import { Store } from '../../src/embedded/api-server/store.ts';
import { needs, program } from '../support/skip.ts';

const KUBECTL = process.env.KUBECTL ?? 'kubectl';
const CRDS = new URL('../../deploy/base/crds/', import.meta.url).pathname;

const MANIFEST = `
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: example.com/p
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, labels: {app: web}}
spec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: main, image: busybox, command: [sleep, "1"], env: [{name: A, value: "1"}], volumeMounts: [{name: v, mountPath: /data}]}
  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
`;

const VOLUME = `
apiVersion: union.csi.dev/v1alpha1
kind: UnionVolume
metadata: {name: uv-1}
spec:
  claim: {namespace: default, name: data}
  volumeName: pvc-1
  capacityBytes: "1073741824"
  accessModes: [ReadWriteOnce]
  branches: [{id: b0, mode: RW, origin: created, claim: {namespace: lower, name: c}, sizeBytes: "1073741824", desired: active}]
  policies: {create: mspmfs, action: epall, search: ff}
  expandStrategy: grow
`;

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe('kubectl', () => {
  let directory = '';
  let store: Store;
  let server: ApiServer;

  before(function () {
    needs(this, program(KUBECTL));
  });

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kubectl-'));
    store = new Store({ directory: join(directory, 'api') });
    store.create(namespaces, { metadata: { name: 'default' } });
    async function* readLog({ follow, tailLines }: { follow: boolean; tailLines?: number }) {
      yield tailLines === 1 ? 'two\n' : 'one\ntwo\n';
      if (follow) yield 'three\n';
    }
    server = await startApiServer({ store, port: 0, readLog, log: silentLogger });
  });
  afterEach(async () => {
    await server.close();
    store.close();
    rmSync(directory, { recursive: true });
  });

  const args = (list: readonly string[]) => ['--server', server.url, '--cache-dir', join(directory, 'cache'), ...list];
  const env = () => ({ ...process.env, HOME: directory, KUBECONFIG: '' });

  function run(list: readonly string[], stdin = ''): Promise<Outcome> {
    return new Promise((resolve) => {
      const child = execFile(KUBECTL, args(list), { env: env() }, (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr });
      });
      child.stdin?.end(stdin);
    });
  }

  async function kubectl(command: string, stdin = ''): Promise<string> {
    const { code, stdout, stderr } = await run(command.split(' '), stdin);
    expect(code, `kubectl ${command}: ${stderr}`).to.equal(0);
    return stdout;
  }

  async function refused(command: string, stdin = ''): Promise<string> {
    const { code, stderr } = await run(command.split(' '), stdin);
    expect(code, `kubectl ${command} was not refused`).to.not.equal(0);
    return stderr;
  }

  const words = (line: string | undefined) => (line ?? '').trim().split(/\s{2,}/);

  /** Gives the pod a node and the claim an event, as the parts around the server would. */
  function bringToLife(): void {
    store.create(nodes, {
      metadata: { name: 'node-1' },
      status: {
        capacity: { cpu: '2', memory: '1Gi' },
        allocatable: { cpu: '2', memory: '1Gi' },
        conditions: [{ type: 'Ready', status: 'True' }],
      },
    });
    const ref = { namespace: 'default', name: 'web' };
    store.patch(pods, ref, { type: 'merge', body: { spec: { nodeName: 'node-1' } } });
    const state = { running: { startedAt: '2026-01-01T00:00:00Z' } };
    const container = { name: 'main', image: 'busybox', imageID: '', ready: true, restartCount: 0, state };
    const status = { phase: 'Running', podIP: '127.0.0.1', containerStatuses: [container] };
    store.patch(pods, ref, { type: 'merge', body: { status } }, { subresource: 'status' });
    const claim = store.get(persistentVolumeClaims, { namespace: 'default', name: 'data' })!;
    const { name, namespace, uid } = claim.metadata;
    store.create(events, {
      metadata: { namespace: 'default', generateName: 'data.' },
      involvedObject: { kind: 'PersistentVolumeClaim', namespace: namespace!, name, uid: uid! },
      reason: 'ProvisioningFailed',
      message: 'no space',
      type: 'Warning',
      count: 1,
      firstTimestamp: claim.metadata.creationTimestamp!,
      lastTimestamp: claim.metadata.creationTimestamp!,
      source: { component: 'provisioner' },
    });
  }

  it('applies a manifest, and finds it unchanged the second time', async () => {
    expect(await kubectl('apply -f -', MANIFEST)).to.equal(
      'storageclass.storage.k8s.io/fast created\npersistentvolumeclaim/data created\npod/web created\n',
    );
    expect(await kubectl('apply -f -', MANIFEST)).to.equal(
      'storageclass.storage.k8s.io/fast unchanged\npersistentvolumeclaim/data unchanged\npod/web unchanged\n',
    );
    const changed = MANIFEST.replace('app: web', 'app: db');
    expect(await kubectl('apply -f -', changed)).to.contain('persistentvolumeclaim/data configured');
    expect(await kubectl('get pvc -l app=db -o name')).to.equal('persistentvolumeclaim/data\n');
  });

  it('gets with the columns of a real cluster', async () => {
    await kubectl('apply -f -', MANIFEST);
    bringToLife();
    const claims = (await kubectl('get pvc -o wide')).split('\n');
    expect(words(claims[0])).to.include.members([
      'NAME',
      'STATUS',
      'VOLUME',
      'CAPACITY',
      'ACCESS MODES',
      'STORAGECLASS',
      'VOLUMEMODE',
    ]);
    expect(words(claims[1]).slice(0, 3)).to.deep.equal(['data', 'Pending', 'fast']);
    const pod = (await kubectl('get pods -o wide')).split('\n')[1]!;
    expect(pod).to.match(/^web\s+1\/1\s+Running\s+0\s+\d+s\s+127\.0\.0\.1\s+node-1\s+<none>\s+<none>$/);
    expect(await kubectl('get sc,pvc,pv,pods -A -o wide')).to.contain('storageclass.storage.k8s.io/fast');
    expect(await kubectl('get node')).to.match(/node-1\s+Ready\s+<none>/);
    expect(await kubectl('get events')).to.match(
      /Warning\s+ProvisioningFailed\s+persistentvolumeclaim\/data\s+no space/,
    );
    expect(await kubectl('get pod web -o jsonpath={.spec.containers[0].name}')).to.equal('main');
  });

  it('describes', async () => {
    await kubectl('apply -f -', MANIFEST);
    bringToLife();
    const claim = await kubectl('describe pvc data');
    expect(claim)
      .to.match(/Used By:\s+web/)
      .and.match(/Warning\s+ProvisioningFailed\s+.*no space/);
    for (const what of ['sc fast', 'pod web', 'node node-1', 'ns default']) await kubectl(`describe ${what}`);
    expect(await kubectl('describe node node-1')).to.match(/default\s+web/);
  });

  it('knows our kinds from their definitions', async () => {
    await kubectl(`apply -f ${CRDS}`);
    await kubectl('wait --for=condition=Established crd --all --timeout=10s');
    expect(await kubectl('apply -f -', VOLUME)).to.equal('unionvolume.union.csi.dev/uv-1 created\n');
    expect(await kubectl('apply -f -', VOLUME)).to.equal('unionvolume.union.csi.dev/uv-1 unchanged\n');
    const conditions = [
      {
        type: 'Ready',
        status: 'False',
        reason: 'x',
        message: 'waits for b0',
        lastTransitionTime: '2026-01-01T00:00:00Z',
      },
    ] as const;
    const status = { phase: 'Pending', conditions } as const;
    store.modify(unionVolumes, { name: 'uv-1' }, (volume) => ({ ...volume, status }), { subresource: 'status' });
    expect(await kubectl('get uv -o wide')).to.match(/uv-1\s+Pending\s+data\s+mspmfs\s+default\s+waits for b0\s+\d+s/);
    expect(await kubectl('describe unionvolume uv-1')).to.match(/Capacity Bytes:\s+1073741824/);
    const wrong = VOLUME.replace('mode: RW', 'mode: XX');
    expect(await refused('apply -f -', wrong)).to.contain(
      'spec.branches[0].mode: Unsupported value: "XX": supported values: "RW", "RO", "NC"',
    );
    await kubectl('delete uv --all');
    expect(await kubectl('get uv -o name')).to.equal('');
  });

  it('patches in every format', async () => {
    await kubectl('apply -f -', MANIFEST);
    const patch = async (type: string, body: unknown) => {
      const { code, stderr } = await run(['patch', 'pod', 'web', `--type=${type}`, '-p', JSON.stringify(body)]);
      expect(code, stderr).to.equal(0);
    };
    await patch('strategic', { spec: { containers: [{ name: 'main', image: 'other' }] } });
    await patch('merge', { metadata: { labels: { a: '1' } } });
    await patch('json', [{ op: 'add', path: '/metadata/labels/b', value: '2' }]);
    const pod = store.get(pods, { namespace: 'default', name: 'web' });
    expect(pod?.spec?.containers[0]).to.deep.include({ image: 'other', command: ['sleep', '1'] });
    expect(pod?.metadata.labels).to.deep.equal({ a: '1', b: '2' });
    await kubectl('label pod web c=3');
    await kubectl('annotate pod web d=4');
    expect(await refused('scale deployment x --replicas=2')).to.contain('resource type');
  });

  it('deletes, and waits for finalizers', async () => {
    await kubectl('apply -f -', MANIFEST);
    const ref = { namespace: 'default', name: 'data' };
    const done = kubectl('delete pvc data --timeout=20s');
    await new Promise<void>((resolve) => {
      store.watch(persistentVolumeClaims, {}, ({ object }) => {
        if (object.metadata.deletionTimestamp !== undefined) resolve();
      });
    });
    expect(await kubectl('get pvc data')).to.contain('Terminating');
    store.patch(persistentVolumeClaims, ref, { type: 'merge', body: { metadata: { finalizers: null } } });
    expect(await done).to.match(/^persistentvolumeclaim "data" deleted/);
    await kubectl('delete sc,pod --all --force --grace-period=0');
    expect(await refused('get pod web')).to.equal('Error from server (NotFound): pods "web" not found\n');
  });

  it('watches', async () => {
    await kubectl('apply -f -', MANIFEST);
    const child = spawn(KUBECTL, args(['get', 'pods', '-w']), { env: env(), stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      let output = '';
      const shows = (pattern: RegExp) =>
        new Promise<void>((resolve) => {
          const check = () => pattern.test(output) && resolve();
          child.stdout.on('data', check);
          check();
        });
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
      await shows(/web\s+0\/1\s+Pending/);
      bringToLife();
      await shows(/web\s+1\/1\s+Running/);
      await kubectl('delete pod web --wait=false');
      await shows(/web\s+1\/1\s+Terminating/);
      expect(output.match(/NAME/g)).to.have.length(1);
    } finally {
      child.kill();
    }
  });

  it('reads logs', async () => {
    await kubectl('apply -f -', MANIFEST);
    expect(await refused('logs web')).to.contain('does not have a host assigned');
    bringToLife();
    expect(await kubectl('logs web')).to.equal('one\ntwo\n');
    expect(await kubectl('logs web --tail=1')).to.equal('two\n');
    expect(await kubectl('logs -f web')).to.equal('one\ntwo\nthree\n');
  });

  it('creates what current versions send as protobuf', async () => {
    await kubectl('create namespace n');
    await kubectl('create configmap -n n a --from-literal=x=y');
    await kubectl('create secret generic -n n s --from-literal=p=q');
    await kubectl('create quota -n n q --hard=requests.storage=5Gi');
    expect(await kubectl('get cm -n n a -o jsonpath={.data.x}')).to.equal('y');
    expect(await kubectl('get secret -n n s -o jsonpath={.data.p}')).to.equal('cQ==');
    await kubectl('delete namespace n --timeout=20s');
    expect(await kubectl('get ns -o name')).to.equal('namespace/default\n');
  });

  it('prints refusals as of a real cluster', async () => {
    await kubectl('apply -f -', MANIFEST);
    const shrunk = MANIFEST.replace('storage: 1Gi', 'storage: 2Gi');
    expect(await refused('apply -f -', shrunk)).to.contain(
      'spec is immutable after creation except resources.requests',
    );
    expect(await refused('create -f -', MANIFEST)).to.contain('persistentvolumeclaims "data" already exists');
    expect(await refused('get deployments')).to.contain(`the server doesn't have a resource type "deployments"`);
    expect(await refused('apply --server-side -f -', MANIFEST)).to.contain('Server-side apply not available');
  });
});
