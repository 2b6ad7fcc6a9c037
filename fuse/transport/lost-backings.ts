/**
 * Backing ids that a dead server got from the kernel and that perhaps nobody knows: it was killed before it had noted them. The
 * kernel gives them out in turn.
 */

/** Of one reader of the server. */
export interface ReaderTrace {
  /** The last id that it has noted, or 0. */
  readonly last: number;
  /** It was at a request, for which it may have got one more. */
  readonly isBusy: boolean;
}

/** More than this many are not the last moments of a server. */
const MAX_LOST_IDS = 4096;

/**
 * Ids below `next`, which is the kernel's next one, that inodes may have or not. One that was not noted may be lower than those that
 * other readers have noted since.
 */
export function doubtfulBackings(next: number, readers: readonly ReaderTrace[]): Set<number> {
  const noted = readers.map(({ last }) => last);
  const busy = readers.filter(({ isBusy }) => isBusy).map(({ last }) => last);
  const known = Math.min(Math.max(...noted), ...busy);
  const doubtful = new Set(noted.filter((id) => id !== 0)); // perhaps by no inode
  for (let id = Math.max(known + 1, next - MAX_LOST_IDS); id < next; id++) doubtful.add(id);
  return doubtful;
}
