/** A claim with data becomes a branch, its files show in the union, and it is its owner's again when the union is gone. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { persistentVolumeClaims, storageClasses } from '../../../src/embedded/api-server/kinds.ts';
import { ANNOTATION_ADOPTED_BY, ANNOTATION_BRANCHES, FINALIZER_ADOPTED } from '../../../src/protocol/resources.ts';
import { BRANCHES_AVAILABLE } from '../../../src/union/branches-available.ts';
import { findCondition } from '../../../src/union/conditions.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser } from '../../support/cluster-user.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, needs } from '../../support/skip.ts';

describe('an adopted claim', () => {
  let cluster: ClusterProcess;
  let user: ClusterUser;

  before(async function () {
    needs(this, fuse);
    cluster = new ClusterProcess();
    await cluster.start();
    user = new ClusterUser(cluster.api);
    await user.createClass('folder', {}, { provisioner: 'directory.embedded.union.csi.dev' });
    await user.createClass('union', {});
  });

  after(async function () {
    const failed = this.test?.parent?.tests.some(({ state }) => state === 'failed');
    await (failed ? cluster?.discard() : cluster?.stop());
  });

  it('shows its files in the union, takes new ones, and stays with all of them', async () => {
    const atRest = await cluster.state();
    await user.createClaim('photos', 'folder');
    await user.run('owner', 'photos', 'mkdir 2025; echo sea > 2025/1.jpg; echo hills > 2.jpg');
    await user.deletePod('owner');
    const withPhotos = await cluster.state();
    const before = (await user.claim('photos'))!;

    // The adopted branch is first, and the policy takes the first that has room.
    await user.createClass('first', { createPolicy: 'ff' });
    const list = '- claim: photos\n- storageClassName: folder';
    await user.createClaim(
      'all',
      'first',
      { resources: { requests: { storage: '128Mi' } } },
      { [ANNOTATION_BRANCHES]: list },
    );
    const seen = await user.run('reader', 'all', 'cat 2025/1.jpg 2.jpg; echo river > 2025/3.jpg; rm 2.jpg; ls 2025');
    expect(seen).to.equal('sea\nhills\n1.jpg\n3.jpg\n');
    const { union } = await user.volumeOf('all');
    const held = (await user.claim('photos'))!;
    expect(held.metadata.annotations?.[ANNOTATION_ADOPTED_BY]).to.equal(union.metadata.name);
    expect(held.metadata.finalizers).to.include(FINALIZER_ADOPTED);

    await user.deletePod('reader');
    await user.deleteClaim('all');
    await user.api.delete(storageClasses, { name: 'first' });
    const folder = join(cluster.dir, 'lower', 'directory', before.spec!.volumeName!, 'data');
    expect(readFileSync(join(folder, '2025', '1.jpg'), 'utf8')).to.equal('sea\n');
    expect(readFileSync(join(folder, '2025', '3.jpg'), 'utf8')).to.equal('river\n');
    expect(existsSync(join(folder, '2.jpg'))).to.equal(false);
    const after = (await user.claim('photos'))!;
    expect(after.metadata.uid).to.equal(before.metadata.uid);
    expect(after.metadata.annotations?.[ANNOTATION_ADOPTED_BY]).to.equal(undefined);
    expect(after.metadata.finalizers).to.deep.equal(before.metadata.finalizers);
    expect(after.spec).to.deep.equal(before.spec);
    const names = (lines: readonly string[]) => lines.filter((line) => !line.includes('/data'));
    expect(names(await cluster.state())).to.deep.equal(names(withPhotos));
    expect(await user.run('owner', 'photos', 'ls -A; cat 2025/3.jpg')).to.match(/^2025\nriver\n$/);
    await user.deletePod('owner');
    await user.deleteClaim('photos');
    await cluster.expectState(atRest);
  });

  it('is held while the union lives, also when somebody deletes it', async () => {
    await user.createClaim('photos', 'folder');
    await user.createClaim('all', 'union', {}, { [ANNOTATION_BRANCHES]: '- claim: photos' });
    expect(await user.run('writer', 'all', 'echo kept > file; cat file')).to.equal('kept\n');
    await user.api.delete(persistentVolumeClaims, { namespace: 'default', name: 'photos' });
    // The server that runs goes on, for other pods too.
    expect(await user.run('reader', 'all', 'cat file')).to.equal('kept\n');
    await user.deletePod('writer');
    expect((await user.claim('photos'))?.metadata.deletionTimestamp).not.to.equal(undefined);
    const trouble = await eventually('the union to say what happens', async () =>
      findCondition((await user.volumeOf('all')).union.status?.conditions, BRANCHES_AVAILABLE),
    );
    expect(trouble).to.include({ status: 'False', reason: 'ClaimDeleted' });
    await user.deletePod('reader');
    await user.deleteClaim('all');
    await user.deleteClaim('photos');
  });
});
