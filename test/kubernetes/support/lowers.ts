/**
 * Lower volumes that others make, by class. `local-path`: a third party's dynamic provisioner, volumes of one node.
 * (`fast`, `large`: the same, for examples). `shared`: the same, volumes that every node reaches. `directories`: static volumes
 * that are directories, as many as a test asks for. `disks`: static local volumes, which are ext4 on loop devices, so
 * that they have real sizes and fill up.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PersistentVolumeClaim } from '../../../src/protocol/objects.ts';
import { apply, get, gone, kubectl, output } from './kubectl.ts';
import { clusterDir, NODES, type NodeName, nodeDir, onNode } from './nodes.ts';

const DISKS_PER_NODE = 4;
export const DISK_SIZE = '192Mi';

/** Of a third party's dynamic provisioner, on the node that a pod is on. */
const LOCAL_PATH_CLASSES = ['local-path', 'fast', 'large'];

const localPathClasses = LOCAL_PATH_CLASSES.map((name) => ({
  apiVersion: 'storage.k8s.io/v1',
  kind: 'StorageClass',
  metadata: { name },
  provisioner: 'rancher.io/local-path',
  volumeBindingMode: 'WaitForFirstConsumer',
}));

const CLASSES = `
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: disks}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: shared}
provisioner: rancher.io/local-path
volumeBindingMode: Immediate
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: directories}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: Immediate
allowVolumeExpansion: true
`;

export async function setUpLowers(): Promise<void> {
  await apply(CLASSES, ...localPathClasses);
  await Promise.all([startLocalPath(), ...NODES.map(makeDisks)]);
  await freshDisks();
}

/** The loop devices go with the node's mounts: nobody needs to detach them. */
async function makeDisks(node: NodeName): Promise<void> {
  const script = `
    mkdir -p ${nodeDir(node)}/disks
    for n in $(seq ${DISKS_PER_NODE}); do
      image=${nodeDir(node)}/disks/$n
      truncate -s ${DISK_SIZE.replace('i', '')} $image
      mkfs.ext4 -q -m 0 $image
      mkdir -p /mnt/disk-$n
      mount -o loop $image /mnt/disk-$n
    done`;
  await onNode(node, script);
}

/** Every static volume empty and free again. Nothing may use them. */
export async function freshDisks(): Promise<void> {
  await kubectl('delete', 'persistentvolume', '--selector', 'disk=static', '--wait', '--timeout=60s');
  await Promise.all(
    NODES.map((node) => onNode(node, 'for d in /mnt/disk-*; do find $d -mindepth 1 -delete; done').catch(() => '')),
  );
  await apply({ apiVersion: 'v1', kind: 'List', items: NODES.flatMap(diskVolumes) });
}

function diskVolumes(node: NodeName): readonly object[] {
  const matchExpressions = [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }];
  return Array.from({ length: DISKS_PER_NODE }, (_, index) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: `disk-${index + 1}-${node}`, labels: { disk: 'static' } },
    spec: {
      capacity: { storage: DISK_SIZE },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: 'disks',
      local: { path: `/mnt/disk-${index + 1}` },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions }] } },
    },
  }));
}

/** Free volumes of class `directories`, which every node reaches; they go with `deleteDirectories`. */
export async function addDirectories(count: number, size: string): Promise<void> {
  const items = Array.from({ length: count }, (_, index) =>
    directory({ name: `directory-${index}`, size, storageClassName: 'directories' }),
  );
  await output('kubectl', ['create', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
}

/** What the provisioner of a lower driver does: makes a volume for a claim. It goes with `deleteDirectories`, too. */
export async function provideDirectory({ metadata, spec }: PersistentVolumeClaim): Promise<void> {
  const { namespace = '', name, uid = '' } = metadata;
  const { storageClassName = '', resources } = spec ?? {};
  const size = resources?.requests?.storage ?? '';
  await apply(directory({ name: `directory-${uid}`, size, storageClassName, claimRef: { namespace, name, uid } }));
}

interface DirectoryOptions {
  readonly name: string;
  readonly size: string;
  readonly storageClassName: string;
  readonly claimRef?: { readonly namespace: string; readonly name: string; readonly uid: string };
}

function directory({ name, size, storageClassName, claimRef }: DirectoryOptions): object {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name, labels: { disk: 'directory' } },
    spec: {
      capacity: { storage: size },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName,
      ...(claimRef && { claimRef }),
      hostPath: { path: join(clusterDir(), 'directories', name), type: 'DirectoryOrCreate' },
    },
  };
}

/** What the resizer of a lower driver does: gives a claim the size that it asks for. Directories have room for any. */
export async function growDirectory(namespace: string, name: string): Promise<void> {
  const claim = await get<PersistentVolumeClaim>('pvc', '--namespace', namespace, name);
  const capacity = { storage: claim?.spec?.resources?.requests?.storage ?? '' };
  await kubectl('patch', 'pv', claim?.spec?.volumeName ?? '', '--patch', JSON.stringify({ spec: { capacity } }));
  const patch = ['--subresource=status', '--type=merge', '--patch', JSON.stringify({ status: { capacity } })];
  await kubectl('patch', 'pvc', '--namespace', namespace, name, ...patch);
}

export async function deleteDirectories(): Promise<void> {
  // In one call: there may be a thousand.
  await kubectl('delete', '--raw', '/api/v1/persistentvolumes?labelSelector=disk%3Ddirectory');
  await gone(120_000, 'persistentvolumes', '--selector', 'disk=directory');
}

const NAMESPACE = 'local-path';
let localPath: ChildProcess | undefined;

async function startLocalPath(): Promise<void> {
  const directory = join(clusterDir(), 'local-path');
  mkdirSync(directory);
  const nodePathMap = NODES.map((node) => ({ node, paths: [join(nodeDir(node), 'local-path')] }));
  const shared = { sharedFileSystemPath: join(clusterDir(), 'shared') };
  const own = Object.fromEntries(LOCAL_PATH_CLASSES.map((name) => [name, { nodePathMap }]));
  const config = JSON.stringify({ storageClassConfigs: { ...own, shared } });
  const helper = `
apiVersion: v1
kind: Pod
metadata: {name: helper}
spec:
  tolerations: [{operator: Exists}]
  containers: [{name: helper, image: 'localhost/busybox:1', imagePullPolicy: Never}]
`;
  writeFileSync(join(directory, 'config.json'), config);
  writeFileSync(join(directory, 'helper.yaml'), helper);
  const data = {
    'config.json': config,
    'helperPod.yaml': helper,
    setup: '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
    teardown: '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
  };
  await apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'local-path-config', namespace: NAMESPACE }, data },
  );
  const log = openSync(join(clusterDir(), 'logs/local-path.log'), 'w');
  const flags = [
    '--kubeconfig',
    process.env.KUBECONFIG ?? '',
    '--namespace',
    NAMESPACE,
    '--service-account-name',
    'default',
  ];
  const files = ['--config', join(directory, 'config.json'), '--helper-pod-file', join(directory, 'helper.yaml')];
  const args = ['start', ...flags, ...files, '--helper-image', 'localhost/busybox:1'];
  localPath = spawn('local-path-provisioner', args, { stdio: ['ignore', log, log] });
}

export function tearDownLowers(): void {
  localPath?.kill('SIGKILL');
}
