/** How long the directory of an embedded cluster may be. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { csiNodes } from '../../../src/embedded/api-server/kinds.ts';
import { type Cluster, startCluster } from '../../../src/embedded/cluster.ts';
import { removeCluster } from '../../../src/embedded/remove-cluster.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, needs } from '../../support/skip.ts';

const LIMIT_BYTES = 46;

describe('the directory of an embedded cluster', () => {
  let folder: string;
  let cluster: Cluster | undefined;

  before(function () {
    const room = LIMIT_BYTES - join(tmpdir(), 'd-123456', 'x').length;
    needs(this, fuse, () => (room < 0 ? 'TMPDIR is too long' : undefined));
  });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'd-'));
  });

  afterEach(async () => {
    await cluster?.close();
    cluster = undefined;
    rmSync(folder, { recursive: true });
  });

  const directory = (bytes: number) => join(folder, 'x'.repeat(bytes - folder.length - 1));
  const start = (dir: string) => startCluster({ dir, nodes: 1, port: 0, log: silentLogger });

  it('may be so long that all sockets in it can be made', async () => {
    const dir = directory(LIMIT_BYTES);
    cluster = await start(dir);
    const isRegistered = () => cluster?.store.get(csiNodes, { name: 'node-1' })?.spec.drivers.length;
    await eventually('the driver to be registered', () => (isRegistered() ?? 0) > 0);
    await cluster.close();
    await removeCluster(dir);
  });

  it('is refused with what may be, and not made, when it is longer', async () => {
    const dir = directory(LIMIT_BYTES + 1);
    const refused = await start(dir).then(
      () => 'started',
      (error: Error) => error.message,
    );
    expect(refused).to.equal(
      `the directory ${dir} is too long for the sockets in it; take one of at most ${LIMIT_BYTES} bytes`,
    );
    expect(existsSync(dir)).to.equal(false);
  });
});
