/** Many claims at once. */
import type { PersistentVolume, PersistentVolumeClaim } from '../../src/protocol/objects.ts';
import { eventually } from '../support/eventually.ts';
import { apply, gone, kubectl, list } from './support/kubectl.ts';
import { claim, unionClass } from './support/workloads.ts';

const COUNT = 20;

describe(`${COUNT} claims at once`, () => {
  it('are all bound, and all deleted', async () => {
    const parameters = { lowerStorageClassName: 'shared', branches: '2' };
    await apply({ ...unionClass({ name: 'many', parameters }), volumeBindingMode: 'Immediate' });
    const names = Array.from({ length: COUNT }, (_, index) => `many-${index}`);
    const items = names.map((name) => claim({ name, storageClassName: 'many', size: '16Mi' }));
    const started = Date.now();
    await apply({ apiVersion: 'v1', kind: 'List', items });
    const bound = async () => {
      const claims = await list<PersistentVolumeClaim>('pvc');
      return claims.filter(({ status }) => status?.phase === 'Bound').length === COUNT;
    };
    await eventually(`${COUNT} bound claims`, bound, 200_000);
    const boundAt = Date.now();
    await kubectl('delete', 'pvc', ...names, '--wait', '--timeout=60s');
    await gone(200_000, 'unionvolumes');
    const dynamic = ({ spec }: PersistentVolume) => spec?.storageClassName !== 'disks';
    await eventually('no dynamic volume', async () => !(await list<PersistentVolume>('pv')).some(dynamic), 60_000);
    const seconds = (from: number, to: number) => ((to - from) / 1000).toFixed(1);
    process.stdout.write(
      `      ${COUNT} claims of 2 branches: bound in ${seconds(started, boundAt)} s, deleted in ${seconds(boundAt, Date.now())} s\n`,
    );
  });
});
