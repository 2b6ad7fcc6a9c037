/**
 * The CSI community's own conformance suite over our Identity and Controller services, from Go's gRPC client:
 *   go install github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@v5.6.0
 * The Node service here only says that it did what it was told: the real one is tested where it can mount.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { silentLogger } from '../../src/base/logger.ts';
import { controllerHandlers } from '../../src/csi/controller.ts';
import { identityHandlers, UNION_PLUGIN } from '../../src/csi/identity.ts';
import { type CsiServer, implement, startCsiServer } from '../../src/csi/server.ts';
import { loadCsi } from '../../src/protocol/proto.ts';
import { type ControlPlane, startControlPlane } from '../support/control-plane.ts';
import { startReconciled } from '../support/reconciled.ts';
import { needs, program } from '../support/skip.ts';

describe('csi-sanity', () => {
  let plane: ControlPlane;
  let directory: string;
  let server: CsiServer;
  let reconciled: ReturnType<typeof startReconciled>;
  const stop = new AbortController();

  before(async function () {
    needs(this, program('csi-sanity'));
    directory = mkdtempSync(join(tmpdir(), 'union-csi-sanity-'));
    plane = await startControlPlane();
    reconciled = startReconciled(plane);
    const csi = loadCsi();
    const done = async () => ({});
    const services = [
      implement(csi.Identity.service, identityHandlers({ plugin: UNION_PLUGIN, version: 'test', isReady: () => true })),
      implement(csi.Controller.service, controllerHandlers(reconciled.dependencies)),
      implement(csi.Node.service, {
        ...{ NodeStageVolume: done, NodeUnstageVolume: done, NodePublishVolume: done, NodeUnpublishVolume: done },
        NodeGetInfo: async () => ({ nodeId: 'node-a' }),
        NodeGetCapabilities: async () => ({ capabilities: [] }),
      }),
    ];
    server = await startCsiServer({ endpoint: join(directory, 'csi.sock'), services, log: silentLogger }, stop.signal);
  });

  after(async () => {
    if (directory === undefined) return;
    stop.abort();
    await server.stopped;
    await reconciled.stop();
    await plane.close();
    rmSync(directory, { recursive: true });
  });

  it('passes for Identity and Controller', async () => {
    const parameters = join(directory, 'parameters.yaml');
    writeFileSync(parameters, 'lowerStorageClassName: plain\nbranches: "2"\n');
    const child = spawn('csi-sanity', [
      `-csi.endpoint=${server.socketPath}`,
      `-csi.testvolumeparameters=${parameters}`,
      `-csi.mountdir=${join(directory, 'mount')}`,
      `-csi.stagingdir=${join(directory, 'staging')}`,
      ...['-csi.testvolumesize=1073741824', '-csi.testvolumeexpandsize=2147483648'],
      ...['-ginkgo.no-color', '-ginkgo.skip=Node Service'],
    ]);
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    const [code] = await once(child, 'exit');
    expect(code, output).to.equal(0);
    expect(Number(/(\d+) Passed \| 0 Failed/.exec(output)?.[1])).to.be.at.least(30);
  });
});
