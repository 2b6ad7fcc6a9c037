/**
 * The model's open directories. POSIX leaves open whether a listing shows what is made or removed while it is read; whatever
 * stays there all the time it shows exactly once.
 */
import type { DirectoryNode } from './nodes.ts';
import type { Listed } from './operations.ts';

interface Listing {
  readonly directory: DirectoryNode;
  /** Names that are there since the listing began, with what they stand for. */
  steady: Map<string, string>;
  /** Names that have come or gone since then. */
  readonly touched: Set<string>;
  readonly seen: Set<string>;
  ended: boolean;
}

export class Listings {
  readonly #open = new Map<number, Listing>();

  open(listing: number, find: () => DirectoryNode): void {
    if (this.#open.has(listing)) throw 'EBADF';
    this.#open.set(listing, begin(find()));
  }

  /** Linux lists nothing of a directory that was removed, not even that it has come to its end. */
  checkReadable(listing: number): void {
    if (this.#get(listing).directory.removed) throw 'ENOENT';
  }

  rewind(listing: number): void {
    this.#open.set(listing, begin(this.#get(listing).directory));
  }

  close(listing: number): void {
    this.#get(listing);
    this.#open.delete(listing);
  }

  /** A name in a directory has come, gone or changed. */
  touch(directory: DirectoryNode, name: string): void {
    for (const listing of this.#open.values()) {
      if (listing.directory !== directory) continue;
      listing.steady.delete(name);
      listing.touched.add(name);
    }
  }

  /** Takes what a client was given next; nothing means the end. Answers what is wrong with it, or undefined. */
  take(listing: number, entries: readonly Listed[]): string | undefined {
    const known = this.#get(listing);
    const wrong: string[] = [];
    for (const { name } of entries) {
      if (known.touched.has(name)) continue;
      if (!known.steady.has(name)) wrong.push(`${name} is not there`);
      else if (known.seen.has(name)) wrong.push(`${name} comes twice`);
      known.seen.add(name);
    }
    if (entries.length === 0 && !known.ended) {
      known.ended = true;
      for (const name of known.steady.keys()) if (!known.seen.has(name)) wrong.push(`${name} is missing`);
    }
    return wrong.length === 0 ? undefined : wrong.join(', ');
  }

  /** What the names of a listing stand for in the model; those that stayed. */
  idsOf(listing: number): ReadonlyMap<string, string> {
    return this.#get(listing).steady;
  }

  #get(listing: number): Listing {
    const known = this.#open.get(listing);
    if (known === undefined) throw 'EBADF';
    return known;
  }
}

function begin(directory: DirectoryNode): Listing {
  const steady = new Map([...directory.children].map(([name, { id }]) => [name, String(id)]));
  return { directory, steady, touched: new Set(), seen: new Set(), ended: false };
}
