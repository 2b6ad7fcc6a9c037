/**
 * Versions of the state memory. What servers of older versions left is brought to this one, a version at a time; what nobody can
 * bring there is refused before anything is done with it. test/unit/fuse/versions.test.ts has memory of each older version.
 *
 * Each step can be killed and repeated: it reads what it does not write, and the version is raised at its end. Nothing is under
 * change then: notes of the server that died are undone by the positions of its version, which are those of this one.
 */
import { readSync } from 'node:fs';
import { BACKING_RING, HANDLE_BYTES, HANDLES_AT, IDLE_AT, LAYOUT, MAGIC, STATE_VERSION, WORD } from './layout.ts';

interface Step {
  /** LAYOUT of the version that it starts from. */
  readonly layout: number;
  readonly apply: (u32: Uint32Array) => void;
}

/** By the version that they start from. */
const STEPS: ReadonlyMap<number, Step> = new Map([[5, { layout: 2072428544, apply: fromFive }]]);

/** Idle inodes were 2048, in the header, and listings in memory of the process: they are made anew. */
function fromFive(u32: Uint32Array): void {
  const [idleAt, count] = [1024, 2048];
  u32.copyWithin(IDLE_AT >>> 2, idleAt, idleAt + count);
  u32.fill(0, (IDLE_AT >>> 2) + count, (IDLE_AT >>> 2) + BACKING_RING);
  u32[WORD.backingHand]! %= count;
  for (let handle = 1; handle < u32[WORD.handleBump]!; handle++) {
    const record = (HANDLES_AT + handle * HANDLE_BYTES) >>> 2;
    u32.fill(0, record + 4, record + 8);
  }
}

/** Why the state memory behind a descriptor cannot be taken over by this program; undefined when it can, or is empty. */
export function unreadableState(fd: number): string | undefined {
  const bytes = Buffer.alloc(4 * (WORD.layout + 1));
  readSync(fd, bytes, 0, bytes.length, 0);
  const word = (index: number) => bytes.readUInt32LE(4 * index);
  return word(WORD.magic) === MAGIC ? whyUnreadable(word(WORD.version), word(WORD.layout)) : undefined;
}

export function whyUnreadable(version: number, layout: number): string | undefined {
  const expected = layoutOf(version);
  // The later one's: killed at the end of a step.
  if (expected !== undefined && (layout === expected || layout === layoutOf(version + 1))) return undefined;
  const found = `version ${version}${expected === undefined ? '' : ' with other sizes'}`;
  return `state memory has ${found}, this program reads ${STATE_VERSION}; unmount, and mount again with this program`;
}

function layoutOf(version: number): number | undefined {
  return version === STATE_VERSION ? LAYOUT : STEPS.get(version)?.layout;
}

/** Brings memory that is not unreadable to this version. */
export function migrate(u32: Uint32Array): void {
  for (let version = u32[WORD.version]!; version !== STATE_VERSION; version++) {
    STEPS.get(version)!.apply(u32);
    u32[WORD.layout] = layoutOf(version + 1)!;
    u32[WORD.version] = version + 1;
  }
}
