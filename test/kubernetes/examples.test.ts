/** The examples, applied as they are, and what `kubectl union` says of them. */
import { join } from 'node:path';
import { expect } from 'chai';
import type { PersistentVolume, Pod } from '../../src/protocol/objects.ts';
import { eventually } from '../support/eventually.ts';
import { get, gone, kubectl, list, output, run, UNION_PLUGIN, union } from './support/kubectl.ts';
import { freshDisks } from './support/lowers.ts';
import { deleted, ended, readiness, running } from './support/workloads.ts';

const root = join(import.meta.dirname, '../..');
const example = (name: string) => join(root, 'examples', name);

interface Found {
  readonly copies: readonly { readonly branch: string }[];
}

/** A pod's log, once it has this in it. */
async function logged(pod: string, wanted: RegExp): Promise<string> {
  return await eventually(`pod ${pod} to print ${wanted}`, async () => {
    const { stdout } = await run('kubectl', ['logs', pod]);
    return wanted.test(stdout) && stdout;
  });
}

describe('the examples', () => {
  it('one-class.yaml: a StatefulSet whose replicas have a union each', async () => {
    await kubectl('apply', '-f', example('one-class.yaml'));
    await kubectl('rollout', 'status', '--timeout=180s', 'statefulset/archive');
    for (const name of ['archive-0', 'archive-1']) expect(await logged(name, /\n$/)).to.equal('30\n');
    // A replica that starts again has its own files, wherever that is.
    await kubectl('delete', 'pod', 'archive-0', '--wait', '--timeout=120s');
    await kubectl('rollout', 'status', '--timeout=180s', 'statefulset/archive');
    expect(await logged('archive-0', /\n$/)).to.equal('30\n');
    const rows = await union<{ claim: string; phase: string }[]>('status');
    expect(rows.map(({ claim, phase }) => [claim, phase])).to.deep.equal([
      ['data-archive-0', 'Ready'],
      ['data-archive-1', 'Ready'],
    ]);
    const [found] = await union<Found[]>('where', 'data-archive-0', '7');
    expect(found?.copies).to.have.length(1);
    expect(await output(UNION_PLUGIN, ['explain', 'data-archive-1'])).to.match(/: nothing is wrong\n/);
    await deleted('-f', example('one-class.yaml'));
    await deleted('pvc', 'data-archive-0', 'data-archive-1');
    await gone(90_000, 'unionvolumes');
  });

  it('two-tiers.yaml: new files go to the fast branch', async () => {
    await kubectl('apply', '-f', example('two-tiers.yaml'));
    await running('tiers');
    await logged('tiers', /first\n$/);
    const [found] = await union<Found[]>('where', 'tiers', 'first');
    expect(found?.copies.map(({ branch }) => branch)).to.deep.equal(['b0']);
    await deleted('-f', example('two-tiers.yaml'));
    await gone(90_000, 'unionvolumes');
  });

  it('adoption: old claims as one tree, and as they were afterwards', async () => {
    await kubectl('apply', '-f', example('adoption/1-old.yaml'));
    await ended('old');
    await deleted('pod', 'old');
    await kubectl('apply', '-f', example('adoption/2-union.yaml'));
    await running('everything');
    expect(await logged('everything', /\n.*\n$/)).to.equal('dear\nsmile\n');
    await deleted('-f', example('adoption/2-union.yaml'));
    await gone(90_000, 'unionvolumes');
    const claims = await list('pvc');
    expect(claims.map(({ metadata }) => metadata.name).sort()).to.deep.equal(['letters', 'photos']);
    await deleted('pvc', 'letters', 'photos');
  });

  it("local-disks.yaml: a node's disks", async () => {
    await kubectl('apply', '-f', example('local-disks.yaml'));
    await running('disks');
    expect((await get<Pod>('pod', 'disks'))?.spec?.nodeName).to.equal('node-1');
    const [shown] = await union<{ branches: { totalBytes: number }[] }[]>('df', 'disks');
    const { branches } = shown!;
    expect(branches).to.have.length(2);
    // Loop devices of 192 MiB, and not what the PersistentVolumes say.
    for (const { totalBytes } of branches) expect(totalBytes).to.be.within(150 * 2 ** 20, 192 * 2 ** 20);
    await deleted('pod,pvc', 'disks');
    await gone(90_000, 'unionvolumes');
    const phase = async () => (await get<PersistentVolume>('pv', 'node-1-disk-1'))?.status?.phase;
    await eventually('a disk that is free of its claim', async () => (await phase()) === 'Released', 30_000);
    await deleted('-f', example('local-disks.yaml'));
    await freshDisks();
  });

  it('longhorn: up to where Longhorn itself is needed', async () => {
    await kubectl('apply', '-f', example('longhorn'));
    const waits = async () => (await readiness('media')).includes('waits for driver.longhorn.io');
    await eventually('what it waits for', waits, 30_000);
    const { code, stdout } = await run(UNION_PLUGIN, ['explain', 'media']);
    expect(code).to.equal(1);
    expect(stdout).to.match(/branch b0 +Pending; .*waits for driver\.longhorn\.io/);
    await deleted('-f', example('longhorn'));
    await gone(90_000, 'unionvolumes');
  });
});
