/**
 * Bad input as a person meets it: what they wrote is refused by the running cluster, the claim's events say why in words to act
 * on, nothing is half made, and when it is corrected it works.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  persistentVolumeClaims,
  persistentVolumes,
  storageClasses,
  unionAttachments,
  unionVolumes,
} from '../../../src/embedded/api-server/kinds.ts';
import type { PersistentVolumeClaim } from '../../../src/protocol/objects.ts';
import { ANNOTATION_BRANCHES, DRIVER_NAMESPACE } from '../../../src/protocol/resources.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser, type Parameters } from '../../support/cluster-user.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, loop, needs, program } from '../../support/skip.ts';

describe('bad input', () => {
  let cluster: ClusterProcess | undefined;
  let user: ClusterUser;
  let atRest: readonly string[];
  /** The claim of a test: a new name each time, so that it has only its own events. */
  let data: string;
  let count = 0;

  before(function () {
    needs(this, fuse, loop);
  });

  beforeEach(async () => {
    data = `data-${++count}`;
    if (cluster) return;
    cluster = new ClusterProcess();
    await cluster.start();
    user = new ClusterUser(cluster.api);
    await user.createClass('folder', {}, { provisioner: 'directory.embedded.union.csi.dev' });
    atRest = await cluster.state();
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'failed') {
      await cluster?.discard();
      cluster = undefined;
      return;
    }
    await user.deleteClaim(data);
    await user.api.delete(storageClasses, { name: 'union' });
    await cluster?.expectState(atRest);
  });

  after(async () => await cluster?.stop());

  /** The claim hears of it, and nothing that was begun for it is there. */
  async function refused(message: string): Promise<void> {
    const line = await user.told(data, /^Warning ProvisioningFailed/);
    expect(line).to.include(message);
    await nothingBegun();
  }

  async function nothingBegun(): Promise<void> {
    const left = async () => {
      const unions = (await user.api.list(unionVolumes)).filter(({ spec }) => spec.claim?.name === data);
      const names = unions.map(({ metadata }) => metadata.name);
      const lowers = (await user.api.list(persistentVolumeClaims)).filter(
        ({ metadata }) => metadata.namespace === DRIVER_NAMESPACE && !metadata.name.startsWith('uv-other'),
      );
      const known = (await user.api.list(persistentVolumes)).map(({ metadata }) => metadata.name);
      const stored = ['directory', 'loop'].flatMap((driver) => readdirSync(join(cluster!.dir, 'lower', driver)));
      return [
        ...[...names, ...lowers.map(({ metadata }) => metadata.name)],
        ...stored.filter((name) => !known.includes(name)),
      ];
    };
    await eventually('nothing half made', async () => (await left()).length === 0).catch(() => {});
    expect(await left(), 'half made').to.deep.equal([]);
  }

  const good: Parameters = { lowerStorageClassName: 'folder', branches: '2' };
  const templates = (branchTemplates: string): Parameters => ({ branchTemplates });

  const badClasses: readonly [what: string, parameters: Parameters, message: string][] = [
    [
      'a misspelt parameter',
      { lowerStorageClassName: 'folder', branchs: '2' },
      'unknown parameter "branchs"; did you mean "branches"?',
    ],
    [
      'a parameter like none',
      { ...good, zzzzzz: '1' },
      'unknown parameter "zzzzzz"; known are lowerStorageClassName, branches',
    ],
    [
      'a missing lower class',
      { ...good, lowerStorageClassName: 'foldr' },
      'lower storage class "foldr" does not exist; did you mean "folder"?',
    ],
    ['zero branches', { ...good, branches: '0' }, 'parameter branches is 0; a union needs at least 1 branch'],
    ['negative branches', { ...good, branches: '-1' }, 'parameter branches is -1; a union needs at least 1 branch'],
    ['65 branches', { ...good, branches: '65' }, 'parameter branches is 65; a union has at most 64 branches'],
    [
      'a size that does not parse',
      templates('- {storageClassName: folder, size: 5 elephants}'),
      'size "5 elephants" is not a size',
    ],
    [
      'a size below the minimum',
      templates('- {storageClassName: folder, size: 1Mi}'),
      'size 1Mi is smaller than the smallest branch, 16.0 MiB; raise it',
    ],
    [
      'sizes that add up to too little',
      templates('- {storageClassName: folder, size: 16Mi}'),
      'the branches add up to 16Mi of the 64Mi asked for; ask for less',
    ],
    [
      'a YAML syntax error',
      templates('- storageClassName: folder\n- {storageClassName: folder'),
      'parameter branchTemplates: line 2, column 28: ',
    ],
  ];
  for (const [what, parameters, message] of badClasses) {
    it(`in a class: ${what}`, async () => {
      await user.createClass('union', parameters);
      await user.createClaim(data, 'union');
      await refused(message);
      await user.replaceClass('union', good);
      await user.bound(data);
    });
  }

  it('in a class: a lower class that is our own', async () => {
    await user.createClass('union', { ...good, lowerStorageClassName: 'union' });
    await user.createClaim(data, 'union');
    await refused('lower storage class "union" makes unions itself, and unions cannot be nested');
    await user.replaceClass('union', good);
    await user.bound(data);
  });

  const badClaims: readonly [what: string, spec: PersistentVolumeClaim['spec'], message: string][] = [
    ['block mode', { volumeMode: 'Block' }, 'set volumeMode: Filesystem'],
    [
      'many writers over lowers of one node',
      { accessModes: ['ReadWriteMany'] },
      'storage class "folder" supports only ReadWriteOnce, ReadWriteOncePod; ask for',
    ],
    [
      'a limit below what the branches need',
      { resources: { requests: { storage: '1Mi' }, limits: { storage: '8Mi' } } },
      'the branches need at least 32Mi, and the limit is 8Mi; raise the limit',
    ],
  ];
  for (const [what, spec, message] of badClaims) {
    it(`in a claim: ${what}`, async () => {
      await user.createClass('union', good);
      await user.createClaim(data, 'union', spec);
      await refused(message);
      await user.deleteClaim(data);
      await user.createClaim(data, 'union');
      await user.bound(data);
    });
  }

  it('is told by kubectl describe', async function () {
    needs(this, program('kubectl'));
    await user.createClass('union', { ...good, branches: '65' });
    await user.createClaim(data, 'union');
    await refused('at most 64 branches');
    const args = ['--kubeconfig', cluster!.kubeconfig, 'describe', 'pvc', data];
    expect(execFileSync('kubectl', args, { encoding: 'utf8' })).to.match(
      /Warning +ProvisioningFailed .* parameter branches is 65; a union has at most 64 branches/,
    );
  });

  describe('in the list of claims to adopt', () => {
    const list = (text: string): Parameters => ({ [ANNOTATION_BRANCHES]: text });

    /** A claim with this list; the class says nothing of branches. */
    async function adopt(text: string): Promise<void> {
      await user.createClass('union', {});
      await user.createClaim(data, 'union', { resources: { requests: { storage: '16Mi' } } }, list(text));
    }

    it('a YAML syntax error', async () => {
      await adopt('- storageClassName: folder\n- {storageClassName: folder');
      await refused(`annotation ${ANNOTATION_BRANCHES}: line 2, column 28: `);
      await user.annotateClaim(data, list('- storageClassName: folder'));
      await user.bound(data);
    });

    it('a claim of another namespace', async () => {
      await adopt('- claim: kube-system/old');
      await refused('claim "kube-system/old" is in another namespace; only claims of the upper claim');
      await user.annotateClaim(data, list('- storageClassName: folder'));
      await user.bound(data);
    });

    it('a missing claim', async () => {
      await adopt('- claim: old');
      await refused('claim "default/old" to adopt does not exist; create it first or take it off the list');
      await user.createClaim('old', 'folder');
      await user.bound(data);
      await user.deleteClaim(data);
      expect((await user.claim('old'))?.status?.phase).to.equal('Bound');
      await user.deleteClaim('old');
    });

    it('a claim that another union has', async () => {
      await user.createClaim('old', 'folder');
      await adopt('- claim: old');
      await user.bound(data);
      await user.createClaim('second', 'union', {}, list('- claim: old'));
      const { union } = await user.volumeOf(data);
      const name = union.metadata.name;
      await user.told('second', `claim "default/old" is a branch of union "${name}"; delete that union's claim first`);
      await user.deleteClaim(data);
      await user.bound('second');
      await user.deleteClaim('second');
      await user.deleteClaim('old');
    });

    it('a claim that a pod uses', async () => {
      await user.createClaim('old', 'folder');
      await user.createPod('user', 'old');
      await user.running('user');
      await adopt('- claim: old');
      await refused(
        'claim "default/old" is in use by pod "user"; delete the pod, or say "shared: true" for this branch',
      );
      await user.deletePod('user');
      await user.bound(data);
      await user.deleteClaim(data);
      await user.deleteClaim('old');
    });
  });

  it('a disk too small for the branches: another size is asked for, and nothing stays', async () => {
    const disk = { provisioner: 'loop.embedded.union.csi.dev', volumeBindingMode: 'WaitForFirstConsumer' } as const;
    await user.createClass('disk', { poolSize: '40Mi' }, disk);
    const parameters = { lowerStorageClassName: 'disk', branches: '2' };
    await user.createClass('union', parameters, { volumeBindingMode: 'WaitForFirstConsumer' });
    await user.createClaim(data, 'union');
    await user.createPod('writer', data);
    await refused('no space for 32.0 MiB: the pool of node node-1 has 8.00 MiB of 40.0 MiB left');
    await user.deletePod('writer');
    await user.deleteClaim(data);
    await nothingBegun();
    await user.createClaim(data, 'union', { resources: { requests: { storage: '32Mi' } } });
    await user.createPod('writer', data);
    await user.running('writer');
    await user.deletePod('writer');
    await user.deleteClaim(data);
    await user.api.delete(storageClasses, { name: 'disk' });
  });

  it('a disk too full for now: says what it waits for, and goes on when there is room', async () => {
    await user.createClass('disk', { poolSize: '40Mi' }, { provisioner: 'loop.embedded.union.csi.dev' });
    await user.createClass('union', { lowerStorageClassName: 'disk', branches: '2' });
    await user.createClaim(data, 'union');
    await user.told(data, /^Warning ProvisioningFailed.* no space for 32.0 MiB: the pool of node node-1 has 8.00 MiB/);
    await user.replaceClass('disk', { poolSize: '80Mi' }, { provisioner: 'loop.embedded.union.csi.dev' });
    await user.bound(data);
    await user.deleteClaim(data);
    await user.api.delete(storageClasses, { name: 'disk' });
  });

  it("a branch of another volume put in this one's place", async () => {
    await user.createClass('union', good);
    await user.createClaim(data, 'union');
    await user.createClaim('other', 'union');
    expect(await user.run('writer', data, 'echo mine > file; cat file')).to.equal('mine\n');
    expect(await user.run('stranger', 'other', 'echo theirs > file; cat file')).to.equal('theirs\n');
    await user.deletePod('writer');
    await user.deletePod('stranger');
    const folderOf = async (claim: string) => {
      const { union } = await user.volumeOf(claim);
      return join(cluster!.dir, 'lower', 'directory', union.status!.branches![0]!.persistentVolume!, 'data');
    };
    const [ours, theirs] = [await folderOf(data), await folderOf('other')];
    // A server holds the directory that it was started with, whatever its name becomes: the union must be detached.
    const exchange = async () => {
      await eventually('unions to be detached', async () => (await user.api.list(unionAttachments)).length === 0);
      renameSync(ours, `${ours}.aside`);
      renameSync(theirs, ours);
      renameSync(`${ours}.aside`, theirs);
    };
    await exchange();
    await user.createPod('writer', data);
    const { union: mine } = await user.volumeOf(data);
    const { union: other } = await user.volumeOf('other');
    await user.told(
      'writer',
      `branch b0 of volume ${mine.metadata.name}: the directory /branches/b0 belongs to branch b0 of volume ${other.metadata.name}`,
    );
    await user.deletePod('writer');
    await exchange();
    expect(await user.run('writer', data, 'cat file')).to.equal('mine\n');
    await user.deletePod('writer');
    await user.deleteClaim('other');
  });
});
