/**
 * A volume as a loop device on a file that a pair of processes serves, attached as block-node does it, and ways to kill those. With
 * `keeper` each is started by the other side than the one before; here both sides are this process. Nothing here waits for the
 * volume: what might is done by other processes.
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Attachments } from '../../src/csi/block/attachments.ts';
import { startForOthers } from '../../src/host/block/attach-processes.ts';
import { type AttachConfig, volumeFile } from '../../src/host/block/attached-volume.ts';
import type { DescriptorServer } from '../../src/host/descriptor-server.ts';
import { abortConnection } from '../../src/host/mounter.ts';
import { processIdentity } from '../../src/host/process-identity.ts';
import { eventually } from './eventually.ts';
import { processesWith } from './leaks.ts';

const program = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const ATTACH_LIMIT_MS = 60_000;

export class AttachedDevice {
  readonly #attachments: Attachments;
  readonly #sides: readonly DescriptorServer[];
  readonly #directory: string;
  readonly #volumeId: string;
  /** `/dev/loopN`; of whoever has attached it. */
  path = '';

  constructor(folder: string, volumeId: string, { keeper }: { readonly keeper: boolean }) {
    const directory = join(folder, 'attached');
    const serverOf = (other: string) => [program, 'block-attach', ...(keeper ? ['--other', join(folder, other)] : [])];
    this.#attachments = new Attachments({ directory, server: serverOf('keeper'), clock: systemClock });
    const admits = () => true;
    const side = (name: string, other: string) =>
      startForOthers({
        path: join(folder, name),
        volumes: directory,
        server: serverOf(other),
        admits,
        log: silentLogger,
      });
    this.#sides = keeper ? [side('node', 'keeper'), side('keeper', 'node')] : [];
    this.#directory = join(directory, volumeId);
    this.#volumeId = volumeId;
  }

  async attach(config: AttachConfig): Promise<void> {
    this.path = await this.#attachments.attach(this.#volumeId, config, AbortSignal.timeout(ATTACH_LIMIT_MS));
  }

  /**
   * One of the two processes, once there are two: with the last one the connection would end. Resolves when it is dead, so that it is
   * not taken for one of two any more.
   */
  async kill(which: 'serves' | 'waits', limitMs: number): Promise<void> {
    const pid = (await eventually('both processes of the device', () => this.#both(), limitMs))[which];
    kill(pid);
    await eventually(`process ${pid} to be dead`, () => !this.#pids().includes(pid), limitMs);
  }

  /** Requests that the device has answered, and those that it has not. */
  get requests(): { readonly done: number; readonly underWay: number } {
    const stat = readFileSync(`/sys/block/${basename(this.path)}/stat`, 'utf8')
      .trim()
      .split(/ +/)
      .map(Number);
    return { done: stat[0]! + stat[4]!, underWay: stat[8]! };
  }

  /** Both processes at once, and with them the connection: whatever was under way fails. */
  async killAll(): Promise<void> {
    await eventually('the processes of the device to be dead', () => {
      const pids = this.#pids();
      for (const pid of pids) kill(pid);
      return pids.length === 0;
    });
  }

  async close(): Promise<void> {
    await this.detach();
    for (const side of this.#sides) await side.close();
  }

  /** Whatever uses it must have ended, or ends by this. */
  async detach(): Promise<void> {
    await abortConnection(volumeFile(this.#directory));
    const signal = AbortSignal.timeout(ATTACH_LIMIT_MS);
    await eventually('the device to be let go', () =>
      this.#attachments.detach(this.#volumeId, signal).then(
        () => true,
        () => false,
      ),
    );
  }

  /** The end of what its processes have written since it was attached. */
  get said(): string {
    const log = join(this.#directory, 'log');
    return existsSync(log) ? readFileSync(log, 'utf8').slice(-4000) : '';
  }

  /** The one that waits was started last. */
  #both(): { readonly serves: number; readonly waits: number } | undefined {
    const processes = this.#pids().flatMap((pid) => processIdentity(pid) ?? []);
    const [serves, waits, ...more] = processes.sort((a, b) => Number(a.startTime) - Number(b.startTime));
    return waits && more.length === 0 ? { serves: serves!.pid, waits: waits.pid } : undefined;
  }

  #pids(): readonly number[] {
    const lines = processesWith(this.#directory).filter((line) => line.includes('block-attach'));
    return lines.map((line) => Number(line.split(' ')[0]));
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it ended in between
  }
}
