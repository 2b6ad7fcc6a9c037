/**
 * The CSI community's conformance suite against the sockets of the deployed controller and node plugin. The suite runs on
 * the node, as kubelet does, and as the sidecars do beside a controller.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Pod } from '../../src/protocol/objects.ts';
import { gone, list } from './support/kubectl.ts';
import { addDirectories, deleteDirectories } from './support/lowers.ts';
import { clusterDir, type NodeName, onNode } from './support/nodes.ts';

describe('csi-sanity on a node', () => {
  it('passes whole', async () => {
    const [controller] = await list<Pod>(
      ...['pods', '--namespace', 'union-csi', '--selector', 'app.kubernetes.io/name=union-csi-controller'],
    );
    const node = controller?.spec?.nodeName as NodeName;
    // More than it makes volumes of, as static ones are used once.
    await addDirectories(150, '32Mi');
    const directory = join(clusterDir(), 'sanity');
    mkdirSync(directory);
    const parameters = join(directory, 'parameters.yaml');
    writeFileSync(parameters, 'lowerStorageClassName: directories\nbranches: "2"\nexpandStrategy: add-branch\n');
    const kubelet = '/var/lib/kubelet';
    const flags = [
      `--csi.controllerendpoint=unix://${kubelet}/pods/${controller?.metadata.uid}/volumes/kubernetes.io~empty-dir/socket/csi.sock`,
      `--csi.endpoint=unix://${kubelet}/plugins/union.csi.dev/csi.sock`,
      `--csi.testvolumeparameters=${parameters}`,
      `--csi.testvolumesize=${64 * 1024 * 1024}`,
      `--csi.testvolumeexpandsize=${96 * 1024 * 1024}`,
      // Below kubelet's directory: only there are the plugin's mounts the node's too.
      `--csi.mountdir=${kubelet}/plugins/union.csi.dev/sanity-mount`,
      `--csi.stagingdir=${kubelet}/plugins/union.csi.dev/sanity-staging`,
      '--ginkgo.no-color',
    ];
    const log = join(clusterDir(), 'logs/csi-sanity.log');
    const verdict = await onNode(
      node,
      `csi-sanity ${flags.join(' ')} >${log} 2>&1; grep -E '^(Ran|.*Passed)' ${log}`,
    ).catch(
      async (error: Error) => `${error.message}\n${await onNode(node, `grep -vE '^ *$|^S+$' ${log} | tail -n 60`)}`,
    );
    expect(verdict).to.match(/\| 0 Failed \|/);
  });

  it('leaves no volume behind', async () => {
    await gone(60_000, 'unionvolumes');
    await gone(10_000, 'unionattachments');
    await deleteDirectories();
  });
});
