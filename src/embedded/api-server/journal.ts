/**
 * The store's file: a header line, then one line per change, appended before the change is visible.
 * Survives SIGKILL at any point: a line without its newline is a change nobody was told of, and is cut off at the next
 * opening. It is not synced on every change, because a machine's crash takes the embedded cluster's mounts with it anyway.
 * Compaction writes the whole state to a new file and renames it over the old one.
 */
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import { isObject, type StoredObject } from './objects.ts';

/** `object` absent: deleted. */
export interface JournalEntry {
  readonly resourceVersion: number;
  readonly kindKey: string;
  readonly objectKey: string;
  readonly object?: StoredObject;
}

export interface JournalState {
  readonly resourceVersion: number;
  readonly entries: readonly JournalEntry[];
}

const FORMAT = 'union-csi-api-journal/1';
/** Compacted when it holds this many lines beyond the live objects. */
const MAXIMUM_DEAD_ENTRIES = 5000;

export class Journal {
  readonly #path: string;
  #descriptor: number;
  #lines: number;
  /** Bytes of whole lines: a failed append is cut back to here, so that the next one starts a line. */
  #length: number;

  private constructor(path: string, descriptor: number, lines: number, length: number) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#lines = lines;
    this.#length = length;
  }

  /** Opens or creates `<directory>/journal.jsonl`; what it held is the second half of the answer. */
  static open(directory: string): { journal: Journal; state: JournalState } {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const path = join(directory, 'journal.jsonl');
    let content: Buffer;
    try {
      content = readFileSync(path);
    } catch (error) {
      if (!isObject(error) || error.code !== 'ENOENT') throw error;
      content = Buffer.alloc(0);
    }
    const whole = content.subarray(0, content.lastIndexOf(0x0a) + 1);
    const lines = whole.length === 0 ? [] : whole.toString('utf8').slice(0, -1).split('\n');
    const state = parseLines(lines, path);
    const descriptor = openSync(path, 'a', 0o600);
    ftruncateSync(descriptor, whole.length);
    const journal = new Journal(path, descriptor, lines.length, whole.length);
    if (lines.length === 0) journal.compact({ resourceVersion: 0, entries: [] });
    return { journal, state };
  }

  append(entry: JournalEntry): void {
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    try {
      writeAll(this.#descriptor, line);
    } catch (error) {
      ftruncateSync(this.#descriptor, this.#length);
      const message = `cannot append to ${this.#path}; make room on its file system`;
      throw new UnionError('RESOURCE_EXHAUSTED', message, { cause: error });
    }
    this.#length += line.length;
    this.#lines++;
  }

  shouldCompact(liveObjects: number): boolean {
    return this.#lines > liveObjects + MAXIMUM_DEAD_ENTRIES;
  }

  /** Replaces the file by one that holds `state` and nothing else. */
  compact(state: JournalState): void {
    const temporary = `${this.#path}.new`;
    const header = { format: FORMAT, resourceVersion: state.resourceVersion };
    const text = Buffer.from([header, ...state.entries].map((line) => `${JSON.stringify(line)}\n`).join(''));
    const descriptor = openSync(temporary, 'w', 0o600);
    try {
      writeAll(descriptor, text);
      fsyncSync(descriptor);
      renameSync(temporary, this.#path);
    } finally {
      closeSync(descriptor);
    }
    closeSync(this.#descriptor);
    this.#descriptor = openSync(this.#path, 'a', 0o600);
    this.#lines = state.entries.length + 1;
    this.#length = text.length;
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

function writeAll(descriptor: number, bytes: Buffer): void {
  for (let offset = 0; offset < bytes.length; ) offset += writeSync(descriptor, bytes, offset);
}

function parseLines(lines: readonly string[], path: string): JournalState {
  let resourceVersion = 0;
  const entries: JournalEntry[] = [];
  lines.forEach((line, index) => {
    const value = parseJson(line);
    if (index === 0 && isObject(value) && value.format === FORMAT) {
      resourceVersion = Number(value.resourceVersion);
    } else if (index > 0 && isEntry(value)) {
      resourceVersion = Math.max(resourceVersion, value.resourceVersion);
      entries.push(value);
    } else {
      const message = `${path} is damaged at line ${index + 1}; restore it or remove it to start an empty cluster`;
      throw new UnionError('FAILED_PRECONDITION', message);
    }
  });
  return { resourceVersion, entries };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function isEntry(value: unknown): value is JournalEntry {
  return (
    isObject(value) &&
    typeof value.resourceVersion === 'number' &&
    typeof value.kindKey === 'string' &&
    typeof value.objectKey === 'string' &&
    (value.object === undefined || isObject(value.object))
  );
}
