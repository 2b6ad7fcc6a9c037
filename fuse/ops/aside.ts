/** The copies of a directory that is being replaced, under `.union/` until it is certain that they are. For one operation. */

import { AT_REMOVEDIR, ENOENT, errnoName, RENAME_NOREPLACE } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { firstBranch, nextBranch } from './context.ts';
import { ownDirectory } from './own-directory.ts';
import { writeText } from './scratch.ts';

interface Taken {
  readonly branch: number;
  /** Descriptor of the branch's `.union`. */
  readonly own: number;
}

export class Aside {
  readonly #context: Context;
  readonly #parent: number;
  readonly #name: number;
  readonly #draft: string;
  readonly #taken: Taken[] = [];

  /** `name` is the address of the directory's name below the inode `parent`. */
  constructor(context: Context, parent: number, name: number) {
    this.#context = context;
    this.#parent = parent;
    this.#name = name;
    // The same when the request is done again.
    this.#draft = `replaced-${context.requestName}`;
  }

  /** Takes the copies on these branches. Answers 0 or a negated errno; `putBack` undoes what was done in either case. */
  take({ low, high }: { readonly low: number; readonly high: number }): number {
    for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
      const directory = this.#context.directories.descriptor(this.#parent, branch);
      if (directory < 0) return directory;
      const own = ownDirectory(this.#context, branch);
      if (own < 0) return own;
      let result = libc.renameat2(directory, this.#name, own, this.#draftName(), RENAME_NOREPLACE);
      if (result === -ENOENT && this.#context.journal.resuming)
        result = this.#context.statName(own, this.#draftName(), this.#context.stat2);
      this.#context.attributes.markChanged(this.#parent, branch);
      if (result < 0) {
        libc.close(own);
        return result;
      }
      this.#taken.push({ branch, own });
    }
    return 0;
  }

  putBack(): void {
    this.#finish((own, branch) => {
      const directory = this.#context.directories.descriptor(this.#parent, branch);
      return directory < 0
        ? directory
        : libc.renameat2(own, this.#draftName(), directory, this.#name, RENAME_NOREPLACE);
    });
  }

  remove(): void {
    this.#finish((own) => libc.unlinkat(own, this.#draftName(), AT_REMOVEDIR));
  }

  /** What a dead server had taken, if it had come to that. */
  removeLeft({ low, high }: { readonly low: number; readonly high: number }): void {
    for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
      const own = ownDirectory(this.#context, branch);
      if (own < 0) continue;
      libc.unlinkat(own, this.#draftName(), AT_REMOVEDIR);
      libc.close(own);
    }
  }

  #finish(end: (own: number, branch: number) => number): void {
    for (const { branch, own } of this.#taken) {
      const result = end(own, branch);
      libc.close(own);
      if (result >= 0) continue;
      const { path } = this.#context.branches[branch]!;
      this.#context.log.error('replaced_directory_kept', {
        branch: path,
        name: this.#draft,
        error: errnoName(-result),
      });
    }
  }

  #draftName(): number {
    return this.#context.base + writeText(this.#context, this.#context.path, this.#draft);
  }
}
