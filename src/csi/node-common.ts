/** What the Node services of both drivers share: how requests are checked, one at a time, and how use is told. */
import { isAbsolute, normalize } from 'node:path';
import { UnionError } from '../base/errors.ts';
import type { FilesystemUsage } from '../host/mounter.ts';

/** Throws INVALID_ARGUMENT for what is missing, and for paths that are none. */
export function checkArguments(values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === '') throw new UnionError('INVALID_ARGUMENT', `${toSnakeCase(name)} is missing`);
    if (name !== 'volumeId' && (!isAbsolute(value) || normalize(value) !== value)) {
      throw new UnionError(
        'INVALID_ARGUMENT',
        `${toSnakeCase(name)} ${value} is not an absolute path in its simplest form`,
      );
    }
  }
}

/** As the specification writes field names. */
function toSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** A second call about a volume while one is under way is ABORTED, as the specification asks. */
export function oneAtATime() {
  const busy = new Set<string>();
  return async <T>(volumeId: string, work: () => Promise<T>): Promise<T> => {
    if (busy.has(volumeId)) {
      throw new UnionError(
        'ABORTED',
        `another call about volume ${volumeId} is under way; repeat this one when it is over`,
      );
    }
    busy.add(volumeId);
    try {
      return await work();
    } finally {
      busy.delete(volumeId);
    }
  };
}

export function notMounted(volumeId: string, path: string): UnionError {
  return new UnionError('NOT_FOUND', `volume ${volumeId} is not mounted at ${path}`);
}

export function usageOf({ totalBytes, availableBytes, usedBytes, totalInodes, freeInodes }: FilesystemUsage) {
  return [
    { unit: 'BYTES', total: `${totalBytes}`, available: `${availableBytes}`, used: `${usedBytes}` } as const,
    {
      unit: 'INODES',
      total: `${totalInodes}`,
      available: `${freeInodes}`,
      used: `${totalInodes - freeInodes}`,
    } as const,
  ];
}
