/**
 * `.union/numbers` of a branch: which of its inodes show another number than their own, because files moved to this branch or
 * away from it (inode/number-table.ts). Records of 16 bytes: lower inode number, shown number, both 64 bits, little endian. They
 * are appended; the last one of an inode counts, and an end torn by a crash is written over.
 */
import { closeSync, fstatSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { UnionFsError } from '../errors.ts';
import { O_CREAT, O_RDWR } from '../sys/constants.ts';
import { type OpenBranch, OWN_DIRECTORY } from './branches.ts';

const FILE = 'numbers';
const RECORD_BYTES = 16;

export interface ShownNumber {
  readonly ino: bigint;
  readonly number: bigint;
}

/** What a branch's list says, oldest first. Throws UnionFsError that names the file. */
export function readNumbers(branch: Pick<OpenBranch, 'path'>): readonly ShownNumber[] {
  const file = join(branch.path, OWN_DIRECTORY, FILE);
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new UnionFsError(code ?? 'EIO', `cannot read ${file}: ${code}; the branch's filesystem may be damaged`, {
      cause,
    });
  }
  return Array.from({ length: Math.floor(bytes.length / RECORD_BYTES) }, (_, index) => ({
    ino: bytes.readBigUInt64LE(index * RECORD_BYTES),
    number: bytes.readBigUInt64LE(index * RECORD_BYTES + 8),
  }));
}

/** Adds to a branch's list, so that it survives a power failure. Throws what fs throws. */
export function recordNumbers(branch: Pick<OpenBranch, 'path'>, numbers: readonly ShownNumber[]): void {
  const own = join(branch.path, OWN_DIRECTORY);
  mkdirSync(own, { recursive: true, mode: 0o700 });
  const records = Buffer.alloc(RECORD_BYTES * numbers.length);
  for (const [index, { ino, number }] of numbers.entries()) {
    records.writeBigUInt64LE(ino, index * RECORD_BYTES);
    records.writeBigUInt64LE(number, index * RECORD_BYTES + 8);
  }
  const file = openSync(join(own, FILE), O_RDWR | O_CREAT, 0o600);
  try {
    const end = Math.floor(fstatSync(file).size / RECORD_BYTES) * RECORD_BYTES;
    writeSync(file, records, 0, records.length, end);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
