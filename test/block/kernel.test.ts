/**
 * A stock Linux kernel as the client: a virtual machine (QEMU without KVM) whose nbd driver has the volume as its disk, with ext4 on it.
 * What it has written and flushed is there when it connects again, to a server that was ended in between, and e2fsck finds nothing wrong.
 *
 * The kernel is a distribution's package, unpacked into ~/.cache/union-csi-tools/kernel (UNION_CSI_KERNEL):
 * `apt-get download linux-image-VERSION-cloud-amd64 && dpkg-deb -x linux-image-*.deb DIRECTORY`.
 */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { TestVolume, VOLUME_NAME } from '../support/block-volume.ts';
import { type Need, needs, program } from '../support/skip.ts';

const kernelDir = process.env.UNION_CSI_KERNEL ?? join(homedir(), '.cache/union-csi-tools/kernel');
/** In the order in which they are wanted. */
const MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci'].map(
    (name) => `drivers/virtio/${name}.ko`,
  ),
  ...['net/core/failover.ko', 'drivers/net/net_failover.ko', 'drivers/net/virtio_net.ko', 'drivers/block/nbd.ko'],
];
const PROGRAMS = ['nbd-client', 'mkfs.ext4', 'e2fsck'];
const BOOT_MS = 240_000;

const kernel: Need = () => (kernelFile() === undefined ? `needs a kernel in ${kernelDir}` : undefined);

function kernelFile(): string | undefined {
  try {
    const name = readdirSync(join(kernelDir, 'boot')).find((file) => file.startsWith('vmlinuz-'));
    return name && join(kernelDir, 'boot', name);
  } catch {
    return undefined;
  }
}

describe('a stock kernel as the client of a volume', function () {
  this.timeout(2 * BOOT_MS + 60_000);
  let volume: TestVolume;
  let folder: string;

  before(function () {
    needs(this, kernel, program('qemu-system-x86_64'), program('busybox'), program('cpio'), ...PROGRAMS.map(program));
    folder = mkdtempSync(join(tmpdir(), 'union-kernel-'));
  });

  after(() => {
    if (folder) rmSync(folder, { recursive: true, force: true });
    volume?.remove();
  });

  /** Boots, runs the script with the volume as /dev/nbd0, and returns what it says. */
  async function boot(script: string): Promise<string> {
    const open = (await volume.open())!;
    const server = await open.serve({ port: 0, host: '127.0.0.1' });
    const port = (await server.listen()).split(':').at(-1)!;
    const connect = `nbd-client -N ${VOLUME_NAME} 10.0.2.2 ${port} /dev/nbd0 -b 4096`;
    const image = makeImage(folder, `${connect}\n${script}\nnbd-client -d /dev/nbd0\necho the end`);
    try {
      const qemu = [
        '-M',
        'q35',
        '-accel',
        'tcg',
        '-m',
        '256',
        '-nographic',
        '-no-reboot',
        '-nic',
        'user,model=virtio-net-pci',
      ];
      const flags = [...qemu, '-kernel', kernelFile()!, '-initrd', image, '-append', 'console=ttyS0 panic=-1 quiet'];
      const { stdout } = await promisify(execFile)('qemu-system-x86_64', flags, { timeout: BOOT_MS });
      return stdout;
    } finally {
      await server.close();
      await open.close();
    }
  }

  it('keeps ext4 whole, and the content of files', async () => {
    volume = await TestVolume.create({ blocks: 16_384, ringBlocks: 4096 });
    const make = 'mkfs.ext4 -q -b 4096 /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt';
    const fill =
      'for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/$i bs=64k count=40 2>/dev/null; done; rm /mnt/3; cp /mnt/4 /mnt/3';
    const first = await boot(
      `${make}\n${fill}\ncd /mnt; sha256sum 1 2 3 4 5 6 7 8 >sums; cd /; sync; umount /mnt && echo made`,
    );
    expect(first, first).to.match(/^made\r?$/m);
    const check =
      'mount -t ext4 /dev/nbd0 /mnt; cd /mnt; sha256sum -c sums; cd /; umount /mnt; e2fsck -fn /dev/nbd0; echo e2fsck $?';
    const second = await boot(check);
    expect(second.match(/^\d: OK\r?$/gm), second).to.have.length(8);
    expect(second, second).to.match(/^e2fsck 0\r?$/m);
  });
});

/** A root filesystem in memory: busybox, the programs with their libraries, the modules, and an init that runs the script. */
function makeImage(folder: string, script: string): string {
  const root = mkdtempSync(join(folder, 'root-'));
  for (const name of ['bin', 'proc', 'sys', 'dev', 'mnt', 'modules', 'tmp']) mkdirSync(join(root, name));
  const which = (name: string) =>
    execFileSync('sh', ['-c', `readlink -f "$(command -v ${name})"`])
      .toString()
      .trim();
  copyFileSync(which('busybox'), join(root, 'bin/busybox'));
  for (const name of PROGRAMS) {
    copyFileSync(which(name), join(root, 'bin', name));
    for (const [library] of execFileSync('ldd', [which(name)])
      .toString()
      .matchAll(/\/\S+/g)) {
      mkdirSync(join(root, dirname(library)), { recursive: true });
      copyFileSync(library, join(root, library));
    }
  }
  const tree = join(kernelDir, 'lib/modules', readdirSync(join(kernelDir, 'lib/modules'))[0]!, 'kernel');
  const modules = MODULES.map((module) => join(tree, module));
  for (const module of modules) copyFileSync(module, join(root, 'modules', basename(module)));
  const init = [
    ...['#!/bin/busybox sh', '/bin/busybox --install -s /bin', 'export PATH=/bin', 'mount -t proc proc /proc'],
    ...['mount -t sysfs sysfs /sys', 'mount -t devtmpfs dev /dev'],
    ...modules.map((module) => `insmod /modules/${basename(module)}`),
    ...['ip link set eth0 up', 'ip addr add 10.0.2.15/24 dev eth0', script, 'poweroff -f'],
  ];
  writeFileSync(join(root, 'init'), `${init.join('\n')}\n`);
  chmodSync(join(root, 'init'), 0o755);
  const image = join(folder, 'initrd');
  execFileSync('sh', ['-c', `cd ${root} && find . | cpio -o -H newc --quiet | gzip -1 >${image}`]);
  rmSync(root, { recursive: true });
  return image;
}
