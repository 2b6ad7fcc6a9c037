/**
 * `union-csi branch remove`: asks the server to empty a branch until it is none any more, and shows how far that is. The server
 * stops when nobody asks, so that ending this command at any moment leaves a union that is whole.
 */
import { systemClock } from '../base/clock.ts';
import { formatBytes } from '../base/units.ts';
import { askRemoval } from '../host/mount-control.ts';
import type { MountInfo } from '../host/mountinfo.ts';
import type { RemovalProgress } from '../protocol/mount-control.ts';

const ASK_MS = 200;

export async function removeBranch(mount: MountInfo, path: string, signal: AbortSignal): Promise<void> {
  const display = new Display();
  const progress = await followRemoval(mount, path, display, signal).finally(() => display.end());
  process.stdout.write(
    `${path} is no branch of ${mount.mountpoint} any more: ${moved(progress)}\n${leftovers(progress)}`,
  );
}

async function followRemoval(
  mount: MountInfo,
  path: string,
  display: Display,
  signal: AbortSignal,
): Promise<RemovalProgress> {
  for (;;) {
    const progress = await askRemoval(mount, path, signal);
    if (progress.phase === 'removed') return progress;
    if (progress.phase === 'failed') throw new Error(`${path} could not be removed: ${progress.message}`);
    if (progress.leftCount > progress.openCount) throw new Error(`${path} stays a branch, NC: ${obstacles(progress)}`);
    display.show(progress);
    await systemClock.sleep(ASK_MS, signal);
  }
}

/** One line that changes on a terminal; elsewhere only news. */
class Display {
  readonly #isTerminal = process.stderr.isTTY;
  #shown = '';

  show(progress: RemovalProgress): void {
    const waits = progress.phase === 'waiting' ? `; waiting for ${obstacles(progress)}` : '';
    const line = this.#isTerminal ? `${moved(progress)}${waits}` : waits.slice(2);
    if (line === this.#shown || line === '') return;
    this.#shown = line;
    process.stderr.write(this.#isTerminal ? `\r\x1b[K${line.slice(0, process.stderr.columns - 1)}` : `${line}\n`);
  }

  end(): void {
    if (this.#isTerminal && this.#shown !== '') process.stderr.write('\r\x1b[K');
  }
}

function moved({ movedFiles, movedBytes }: RemovalProgress): string {
  return `${count(movedFiles, 'file')} moved, ${formatBytes(movedBytes)}`;
}

/** Some files that cannot be moved, and why. */
function obstacles({ left, leftCount }: RemovalProgress): string {
  const named = left.map(({ path, why }) => `${path}: ${why}`);
  return `${count(leftCount, 'file')}: ${named.join('; ')}${leftCount > left.length ? '; …' : ''}`;
}

function leftovers({ hiddenCount, kept }: RemovalProgress): string {
  const lines = [];
  if (hiddenCount > 0) lines.push(`${count(hiddenCount, 'file')} stayed on it, as other branches have the names too`);
  if (kept.length > 0) lines.push(`its .union keeps what was set aside: ${kept.join(', ')}`);
  return lines.map((line) => `${line}\n`).join('');
}

function count(amount: number, what: string): string {
  return `${amount.toLocaleString('en-US')} ${what}${amount === 1 ? '' : 's'}`;
}
