/** Many claims at once, and a thousand unions that nobody touches. Volumes are static, so that what is measured is ours. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { PersistentVolumeClaim, Pod } from '../../src/protocol/objects.ts';
import type { BranchSpec, UnionVolume } from '../../src/protocol/resources.ts';
import { unionVolume } from '../../src/union/spec.ts';
import { eventually } from '../support/eventually.ts';
import { apply, gone, kubectl, list, output } from './support/kubectl.ts';
import { addDirectories, deleteDirectories } from './support/lowers.ts';
import { clusterDir } from './support/nodes.ts';
import { claim, unionClass } from './support/workloads.ts';

const CLAIMS = 100;
const UNIONS = 1000;
const IDLE_SECONDS = 60;
/** So long nothing is asked for when nothing is to be done. */
const REST_MS = 5_000;
/** For what hangs, not for slow machines. */
const LIMIT_MS = 600_000;

const seconds = (from: number, to = Date.now()) => ((to - from) / 1000).toFixed(1);
const report = (text: string) => process.stdout.write(`      ${text}\n`);

/** Creates objects of any number in one call. */
async function create(items: readonly object[]): Promise<void> {
  await output('kubectl', ['create', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
}

interface Usage {
  readonly cpuSeconds: number;
  readonly mebibytes: number;
}

/** Of every replica of the controller. */
async function controllerUsage(): Promise<readonly Usage[]> {
  const selector = ['--namespace', 'union-csi', '--selector', 'app.kubernetes.io/name=union-csi-controller'];
  const pods = await list<Pod>('pods', ...selector);
  return await Promise.all(
    pods.map(async ({ metadata }) => {
      const text = await kubectl(
        'get',
        '--raw',
        `/api/v1/namespaces/union-csi/pods/${metadata.name}:9808/proxy/metrics`,
      );
      const value = (name: string) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1]);
      return {
        cpuSeconds: value('process_cpu_seconds_total'),
        mebibytes: Math.round(value('process_resident_memory_bytes') / 2 ** 20),
      };
    }),
  );
}

const memory = (usage: readonly Usage[]) => usage.map(({ mebibytes }) => `${mebibytes} MiB`).join(' and ');

/** What our program asks the API server for, but for its leases, by its audit log: each call tells what is new since the last. */
function createListener(): () => readonly string[] {
  const path = join(clusterDir(), 'logs/audit.log');
  let read = statSync(path).size;
  return () => {
    const text = readFileSync(path).subarray(read).toString();
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    read += Buffer.byteLength(whole);
    return whole.split('\n').flatMap((line) => {
      if (!line.includes('"userAgent":"union-csi"')) return [];
      const { verb, objectRef } = JSON.parse(line);
      return objectRef?.resource === 'leases' ? [] : [`${verb} ${objectRef?.resource}`];
    });
  };
}

function counted(requests: readonly string[]): readonly (readonly [string, number])[] {
  const counts = new Map<string, number>();
  for (const request of requests) counts.set(request, (counts.get(request) ?? 0) + 1);
  return [...counts];
}

describe(`${CLAIMS} claims at once`, () => {
  it('are all bound, and all deleted', async () => {
    await addDirectories(2 * CLAIMS, '32Mi');
    const parameters = { lowerStorageClassName: 'directories', branches: '2' };
    await apply({ ...unionClass({ name: 'many', parameters }), volumeBindingMode: 'Immediate' });
    const names = Array.from({ length: CLAIMS }, (_, index) => `many-${index}`);
    const started = Date.now();
    await create(names.map((name) => claim({ name, storageClassName: 'many', size: '64Mi' })));
    const bound = async () => {
      const claims = await list<PersistentVolumeClaim>('pvc');
      return claims.filter(({ status }) => status?.phase === 'Bound').length === CLAIMS;
    };
    await eventually(`${CLAIMS} bound claims`, bound, 200_000);
    const boundAt = Date.now();
    const usage = await controllerUsage();
    await kubectl('delete', 'pvc', ...names, '--wait', '--timeout=120s');
    await gone(200_000, 'unionvolumes');
    report(`${CLAIMS} claims of 2 branches: bound in ${seconds(started, boundAt)} s, deleted in ${seconds(boundAt)} s`);
    report(`controllers: ${memory(usage)}`);
    await gone(60_000, 'pvc', '--namespace', 'union-csi');
    await deleteDirectories();
  });
});

describe(`${UNIONS} unions`, () => {
  it('cost next to nothing while nothing happens to them', async function () {
    this.timeout(LIMIT_MS + 2 * IDLE_SECONDS * 1000);
    await addDirectories(UNIONS, '32Mi');
    const started = Date.now();
    await create(Array.from({ length: UNIONS }, (_, index) => idleUnion(`idle-${index}`)));
    const ready = async () => {
      const table = await kubectl('get', 'unionvolumes', '--no-headers');
      return table.match(/ Ready /g)?.length === UNIONS;
    };
    await eventually(`${UNIONS} unions that are ready`, ready, LIMIT_MS);
    report(`${UNIONS} unions: ready in ${seconds(started)} s`);
    const asked = createListener();
    let lastAsked = Date.now();
    // What changed last is looked at once more.
    const rests = () => {
      if (asked().length > 0) lastAsked = Date.now();
      return Date.now() - lastAsked > REST_MS;
    };
    await eventually('controllers that have come to rest', rests, LIMIT_MS);
    const usedBefore = await controllerUsage();
    await new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000));
    const [more, usedAfter] = [counted(asked()), await controllerUsage()];
    const cpu = usedAfter.map(({ cpuSeconds }, index) => cpuSeconds - (usedBefore[index]?.cpuSeconds ?? 0));
    report(
      `idle for ${IDLE_SECONDS} s: ${cpu.map((used) => `${used.toFixed(2)} s`).join(' and ')} of CPU, ${memory(usedAfter)}`,
    );
    report(`asked for meanwhile: ${more.map(([key, count]) => `${count} ${key}`).join(', ') || 'nothing'}`);
    // Watches that ended are taken up again, and the attacher asks for the list of volumes once a minute. Nothing is read one
    // by one, and nothing else listed.
    const isExpected = (key: string) => key.startsWith('watch ') || /^list union(volumes|attachments)$/.test(key);
    expect(more.filter(([key, count]) => !isExpected(key) || count > 10)).to.deep.equal([]);
    expect(Math.max(...cpu)).to.be.lessThan(IDLE_SECONDS / 20);
  });

  it('go again', async function () {
    this.timeout(2 * LIMIT_MS);
    const started = Date.now();
    await kubectl('delete', 'unionvolumes', '--all', '--wait=false');
    await gone(LIMIT_MS, 'unionvolumes');
    report(`${UNIONS} unions: deleted in ${seconds(started)} s`);
    await gone(60_000, 'pvc', '--namespace', 'union-csi');
    await deleteDirectories();
  });
});

function idleUnion(name: string): UnionVolume {
  const sizeBytes = String(32 * 2 ** 20);
  const made = unionVolume({
    volumeName: name,
    capacityBytes: sizeBytes,
    accessModes: ['ReadWriteOnce'],
    branches: [],
    policies: { create: 'mspmfs', action: 'epall', search: 'ff' },
    expandStrategy: 'grow',
    mountOptions: [],
  });
  const branch: BranchSpec = {
    id: 'b0',
    mode: 'RW',
    origin: 'created',
    claim: { namespace: 'union-csi', name: `${made.metadata.name}-b0` },
    storageClassName: 'directories',
    sizeBytes,
    desired: 'active',
  };
  return { ...made, spec: { ...made.spec, branches: [branch] } };
}
