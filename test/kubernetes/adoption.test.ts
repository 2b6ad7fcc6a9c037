/** A claim with files becomes a branch of a union, where it is, and is given back as it was, with what was added. */
import { expect } from 'chai';
import type { PersistentVolumeClaim, Pod } from '../../src/protocol/objects.ts';
import { eventually } from '../support/eventually.ts';
import { apply, get, gone, kubectl } from './support/kubectl.ts';
import { claim, deleted, ended, pod, running, unionClass } from './support/workloads.ts';

const adopts = (name: string, list: string) =>
  claim({ name, storageClassName: 'adopting', size: '128Mi', annotations: { 'union.csi.dev/branches': list } });

describe('adoption on a real cluster', () => {
  before(async () => {
    await apply(unionClass({ name: 'adopting', parameters: { createPolicy: 'mfs' } }));
    await apply(claim({ name: 'old', storageClassName: 'local-path', size: '64Mi' }));
    const script = 'mkdir -p album; echo old > album/1; chown -R 1234:1234 album; chmod 750 album';
    await apply(pod({ name: 'before', claim: 'old', script, node: 'node-3' }));
    await ended('before');
    await deleted('pod', 'before');
  });

  it('shows its files beside those of a new branch', async () => {
    await apply(adopts('joined', '- claim: old\n- {storageClassName: local-path, count: 1, size: 64Mi}'));
    const script =
      'cat album/1; stat -c "%u %a" album; echo new > album/2; mv album/2 album/3; ln album/3 album/4; ls album; exec sleep 10000';
    // The scheduler does not know where the old claim is.
    await apply(pod({ name: 'user', claim: 'joined', script, preferred: 'node-1' }));
    await running('user');
    expect((await get<Pod>('pod', 'user'))?.spec?.nodeName).to.equal('node-3');
    const log = async () => (await kubectl('logs', 'user')).trim().split('\n');
    await eventually('a pod that has done its work', async () => (await log()).at(-1) === '4', 30_000);
    expect(await log()).to.deep.equal(['old', '1234 750', '1', '3', '4']);
    const old = await get<PersistentVolumeClaim>('pvc', 'old');
    expect(old?.metadata.finalizers).to.include('union.csi.dev/adopted');
  });

  it('refuses the claim to a second union, and says which has it', async () => {
    await apply(adopts('second', '- claim: old'));
    await apply(pod({ name: 'second', claim: 'second', script: 'true' }));
    const told = async () => (await kubectl('describe', 'pvc', 'second')).includes('is a branch of union');
    await eventually('an event that names the union', told, 60_000);
    await deleted('pod', 'second');
    await deleted('pvc', 'second');
  });

  it("runs its server without privileges in the claim's namespace", async () => {
    const server = await get<Pod>('pods', '--selector', 'app.kubernetes.io/name=union-csi-server');
    const container = server?.spec?.containers[0];
    expect(container?.securityContext?.capabilities?.add).not.to.include('SYS_ADMIN');
  });

  it('gives it back when the union is deleted', async () => {
    await deleted('pod', 'user');
    await deleted('pvc', 'joined');
    await gone(60_000, 'unionvolumes');
    const old = await get<PersistentVolumeClaim>('pvc', 'old');
    expect(old?.metadata.finalizers).not.to.include('union.csi.dev/adopted');
    expect(old?.metadata.annotations).not.to.have.property('union.csi.dev/adopted-by');
    await apply(pod({ name: 'after', claim: 'old', script: 'ls -A; cat album/1; stat -c "%u %a" album' }));
    const lines = (await ended('after')).trim().split('\n');
    expect(lines, 'nothing of the union is left').to.deep.equal(['album', 'old', '1234 750']);
    await deleted('pod', 'after');
    await deleted('pvc', 'old');
  });
});
