/**
 * What block-node and block-keeper do alike for volumes that are attached to their node: each starts the processes that wait in its
 * container, for those that serve in the other one's (host/block/attach-processes.ts). With the first process of a container
 * all others of it end, so that one leaves before it ends.
 */
import { mkdirSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../base/logger.ts';
import { LEAVE_SIGNAL, type ProcessRequest, startForOthers } from '../host/block/attach-processes.ts';
import { attachPlaces } from '../host/block/attached-volume.ts';

const LOOK_MS = 100;
/** Which of two containers that are told to end goes last. */
const LAST = 'keeper';

export interface AttachSide {
  /** The real path of where volumes' directories lie. */
  readonly volumes: string;
  /** What runs `union-csi block-attach` on this side: program and first arguments. */
  readonly server: readonly string[];
  /** In a container, resolves when each of these processes has had one in the other container go on, and none is started any more. */
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
  let phase: 'open' | 'leaving' | 'closed' = 'open';
  // Each of two that leave wants the other one to go on with what it serves. So one of them does, until the other has gone.
  const admits = ({ isLeaving }: ProcessRequest) =>
    phase === 'open' || (phase === 'leaving' && side === LAST && isLeaving);
  const starting = startForOthers({ path: places[side], volumes, server, admits, log });
  return {
    volumes,
    server,
    end: async () => {
      phase = 'leaving';
      for (let left = leftWith(other); left.length > 0; left = leftWith(other)) {
        left.forEach(tell);
        await delay(LOOK_MS);
      }
      phase = 'closed'; // in one step with the look that has found none
      await starting.close();
    },
  };
}

function tell(pid: number): void {
  try {
    process.kill(pid, LEAVE_SIGNAL);
  } catch {
    // it has ended
  }
}

/** The processes of this container, whoever started them. Without a container they stay when this process ends. */
function leftWith(other: string): readonly number[] {
  if (process.pid !== 1) return [];
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
