/**
 * The containers of block-node and block-keeper on a node, told to end while both serve volumes: each is a process namespace, as in
 * a pod, and takes all its processes with it. Nothing here reads a volume's content: there are no replicas.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { mountDevice, openDevice } from '../../fuse/index.ts';
import { startAttachProcess } from '../../src/host/block/attach-processes.ts';
import { type AttachConfig, attachPlaces, CONFIG_FILE, volumeFile } from '../../src/host/block/attached-volume.ts';
import { unmountOnce } from '../../src/host/mounter.ts';
import { mountAt } from '../../src/host/mountinfo.ts';
import { eventually } from '../support/eventually.ts';
import { expectNoLeaks, processesWith } from '../support/leaks.ts';
import { hasEnded, killed } from '../support/processes.ts';
import { fuse, needs } from '../support/skip.ts';

const program = fileURLToPath(new URL('../../src/main/cli.ts', import.meta.url));
const nodeSide = fileURLToPath(new URL('../support/attach-side.ts', import.meta.url));
const VOLUMES = ['1', '2'].map((digit) => `bv-${digit.repeat(32)}`);
const CONFIG: AttachConfig = { exportName: 'volume', sizeBytes: 1 << 20, addresses: [] };
/** In the order in which they go when both are told to. */
const SIDES = ['node', 'keeper'] as const;
type Side = (typeof SIDES)[number];

describe('the two containers with what serves attached volumes', function () {
  this.timeout(180_000);
  let dir: string;
  let containers: Map<Side, ChildProcess>;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'union-sides-'));
    containers = new Map();
  });

  afterEach(async () => {
    for (const file of VOLUMES.map(fileOf)) if (mountAt(file) !== undefined) await unmountOnce(file, { lazy: false });
    for (const container of containers.values()) await killed(container);
    await expectNoLeaks(dir);
    rmSync(dir, { recursive: true });
  });

  const fileOf = (volume: string) => volumeFile(join(attachPlaces(dir).volumes, volume));

  function start(side: Side): void {
    const args = side === 'node' ? [nodeSide, dir] : [program, 'block-keeper', '--kubelet-dir', dir];
    const namespace = ['--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'slave'];
    const log = openSync(join(dir, side), 'a');
    containers.set(side, spawn('unshare', [...namespace, process.execPath, ...args], { stdio: ['ignore', log, log] }));
    closeSync(log);
  }

  /** Whoever serves the volume or waits, in that container. */
  function processesIn(side: Side, volume: string): readonly number[] {
    const other = attachPlaces(dir)[side === 'node' ? 'keeper' : 'node'];
    const lines = processesWith(volume).filter((line) => line.includes(`block-attach --other ${other} `));
    return lines.map((line) => Number(line.split(' ')[0]));
  }

  /** What runs in it first: of the two with that command line the later one; unshare waits for it. */
  function tellToEnd(side: Side): void {
    const container = containers.get(side)!;
    const [first] = processesWith(side === 'node' ? `${nodeSide} ${dir}` : `block-keeper --kubelet-dir ${dir}`)
      .map((line) => Number(line.split(' ')[0]))
      .filter((pid) => pid !== container.pid);
    process.kill(first!, 'SIGTERM');
  }

  function attach(volume: string): void {
    const directory = join(attachPlaces(dir).volumes, volume);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, CONFIG_FILE), JSON.stringify(CONFIG));
    writeFileSync(fileOf(volume), '');
    const device = openDevice();
    mountDevice({ deviceFd: device, mountpoint: fileOf(volume), fsname: volume, readOnly: false, isFile: true });
    const server = [process.execPath, program, 'block-attach', '--other', attachPlaces(dir).keeper];
    startAttachProcess({ server, directory, device });
    closeSync(device);
  }

  const answers = (volume: string) => statSync(fileOf(volume)).size === CONFIG.sizeBytes;
  const inBoth = (volume: string) =>
    processesIn('node', volume).length === 1 && processesIn('keeper', volume).length === 1;

  /** Kills the one in that container; the one in the other serves, and has another started. */
  async function hasServed(side: Side, volume: string): Promise<void> {
    const [serves] = processesIn(side, volume);
    process.kill(serves!, 'SIGKILL');
    const isReplaced = () => inBoth(volume) && !processesIn(side, volume).includes(serves!);
    await eventually(`another process for ${volume} in the container of ${side}`, isReplaced);
  }

  for (const order of [SIDES, SIDES.toReversed()])
    it(`are both replaced when both are told to end, ${order[0]} first, each with a volume that it serves`, async () => {
      SIDES.forEach(start);
      await eventually('both to listen', () => SIDES.every((side) => existsSync(attachPlaces(dir)[side])));
      for (const volume of VOLUMES) {
        attach(volume);
        await eventually(`a process for ${volume} in each`, () => inBoth(volume));
        // It served outside of both, as nothing else does.
        await hasServed('node', volume);
      }
      await hasServed('keeper', VOLUMES[0]!);
      order.forEach(tellToEnd);
      // Either goes when it serves nothing any more, and is started anew, as by a DaemonSet.
      for (const side of SIDES) {
        const container = containers.get(side)!;
        await eventually(`the container of ${side} to end`, () => hasEnded(container));
        start(side);
      }
      for (const volume of VOLUMES) await eventually(`a process for ${volume} in each`, () => inBoth(volume));
      expect(VOLUMES.every(answers)).to.equal(true);
    });
});
