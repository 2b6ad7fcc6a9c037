/**
 * What block-node and block-keeper do alike for volumes that are attached to their node: each starts the processes that wait in its
 * container, for those that serve in the other one's (host/block/attach-processes.ts). With the first process of a container
 * all others of it end, so that one leaves before it ends.
 */
import { mkdirSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../base/logger.ts';
import { LEAVE_SIGNAL, startForOthers } from '../host/block/attach-processes.ts';
import { attachPlaces } from '../host/block/attached-volume.ts';

const LOOK_MS = 100;

export interface AttachSide {
  /** The real path of where volumes' directories lie. */
  readonly volumes: string;
  /** What runs `union-csi block-attach` on this side: program and first arguments. */
  readonly server: readonly string[];
  /** Starts no more; in a container, resolves when each of these processes has had one in the other container go on. */
  end(): Promise<void>;
}

export interface AttachSideOptions {
  readonly side: 'node' | 'keeper';
  readonly kubeletDir: string;
  readonly log: Logger;
}

/** Listens from here on. */
export function startAttachSide({ side, kubeletDir, log }: AttachSideOptions): AttachSide {
  const places = attachPlaces(kubeletDir);
  mkdirSync(places.volumes, { recursive: true });
  const volumes = realpathSync(places.volumes);
  const other = places[side === 'node' ? 'keeper' : 'node'];
  const server = [process.execPath, ...process.execArgv, process.argv[1]!, 'block-attach', '--other', other];
  const starting = startForOthers({ path: places[side], volumes, server, log });
  return {
    volumes,
    server,
    end: async () => {
      await starting.close();
      if (process.pid === 1) await allLeft(other);
    },
  };
}

async function allLeft(other: string): Promise<void> {
  for (let left = processesWith(other); left.length > 0; left = processesWith(other)) {
    left.forEach(tell);
    await delay(LOOK_MS);
  }
}

function tell(pid: number): void {
  try {
    process.kill(pid, LEAVE_SIGNAL);
  } catch {
    // it has ended
  }
}

/** Of this container, whoever started them. */
function processesWith(other: string): readonly number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      return words.includes('block-attach') && words.includes(other) ? [Number(name)] : [];
    } catch {
      return []; // it has ended
    }
  });
}
