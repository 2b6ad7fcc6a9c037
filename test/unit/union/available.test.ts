import { expect } from 'chai';
import fc from 'fast-check';
import { parseBranchList } from '../../../src/protocol/branch-list.ts';
import type { CSIStorageCapacity, PersistentVolume } from '../../../src/protocol/objects.ts';
import { availableCapacity, type ObservedRoom, UNBOUNDED_BYTES } from '../../../src/union/available.ts';
import { MIB, storageClass, volumeOn } from '../../support/union-objects.ts';

const HOSTNAME = 'kubernetes.io/hostname';
const disks = storageClass('disks', { provisioner: 'kubernetes.io/no-provisioner' });

function disk(name: string, node: string, mebibytes: number): PersistentVolume {
  const made = volumeOn(name, HOSTNAME, [node]);
  const spec = { ...made.spec, storageClassName: 'disks', capacity: { storage: `${mebibytes}Mi` } };
  return { ...made, spec, status: { phase: 'Available' } };
}

function capacity(storageClassName: string, node: string, fields: Partial<CSIStorageCapacity>): CSIStorageCapacity {
  const metadata = { name: `${storageClassName}-${node}`, namespace: 'lower' };
  const nodeTopology = { matchLabels: { [HOSTNAME]: node } };
  return {
    ...{ apiVersion: 'storage.k8s.io/v1', kind: 'CSIStorageCapacity' },
    ...{ metadata, storageClassName, nodeTopology, ...fields },
  };
}

function available(list: string, room: Partial<ObservedRoom>, node = 'node-1'): number {
  const items = parseBranchList(list, 'refused');
  if (!items.ok) throw new Error(items.error);
  const storageClasses = [disks, storageClass('fast')];
  const labels = node === 'any' ? undefined : { [HOSTNAME]: node };
  return Number(
    availableCapacity(items.value, { storageClasses, volumes: [], capacities: [], ...room, node: labels }) / MIB,
  );
}

describe('availableCapacity', () => {
  it('is bound by the smallest of the volumes that equal branches need', () => {
    const volumes = [disk('a', 'node-1', 100), disk('b', 'node-1', 300), disk('c', 'node-1', 200)];
    expect(available('- {storageClassName: disks, count: 2}', { volumes })).to.equal(400);
    expect(available('- {storageClassName: disks, count: 3}', { volumes })).to.equal(300);
    expect(available('- {storageClassName: disks, count: 4}', { volumes })).to.equal(0);
  });

  it('bounds nothing where claims bring their branches', () => {
    const observed = { storageClasses: [disks], volumes: [], capacities: [], node: undefined };
    expect(availableCapacity([], observed)).to.equal(UNBOUNDED_BYTES);
  });

  it('counts what the node reaches and nobody has claimed', () => {
    const claimed = disk('b', 'node-1', 500);
    const volumes = [
      disk('a', 'node-1', 100),
      { ...claimed, spec: { ...claimed.spec, claimRef: { name: 'x' } } },
      disk('c', 'node-2', 200),
    ];
    expect(available('- {storageClassName: disks}', { volumes })).to.equal(100);
    expect(available('- {storageClassName: disks}', { volumes }, 'any')).to.equal(200);
  });

  it('takes what lower drivers publish: all of it, and the largest volume', () => {
    const capacities = [
      capacity('fast', 'node-1', { capacity: '1Gi', maximumVolumeSize: '300Mi' }),
      capacity('fast', 'node-2', { capacity: '8Gi' }),
    ];
    expect(available('- {storageClassName: fast, count: 2}', { capacities })).to.equal(600);
    expect(available('- {storageClassName: fast, count: 8}', { capacities })).to.equal(1024);
    expect(available('- {storageClassName: fast}', { capacities }, 'node-2')).to.equal(8192);
  });

  it('is bound by the class that is the first to have no more for its share', () => {
    const capacities = [capacity('fast', 'node-1', { capacity: '100Mi' })];
    const volumes = [disk('a', 'node-1', 800)];
    const list = '- {storageClassName: fast, size: 25%}\n- {storageClassName: disks}';
    expect(available(list, { capacities, volumes })).to.equal(400);
  });

  it('is without bound where lower classes tell nothing', () => {
    const whole = Number(UNBOUNDED_BYTES / MIB);
    expect(available('- {storageClassName: fast, count: 2}', {})).to.equal(whole);
    expect(available('- {storageClassName: fast}\n- {storageClassName: disks}', {})).to.equal(0);
  });

  it('never promises more than the volumes hold', () => {
    const sizes = fc.array(fc.integer({ min: 16, max: 5000 }), { maxLength: 6 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 4 }), (mebibytes, count) => {
        const volumes = mebibytes.map((size, index) => disk(`d${index}`, 'node-1', size));
        const largest = [...mebibytes].sort((left, right) => right - left).slice(0, count);
        const expected = largest.length < count ? 0 : count * largest.at(-1)!;
        expect(available(`- {storageClassName: disks, count: ${count}}`, { volumes })).to.equal(expected);
      }),
    );
  });
});
