/**
 * Directories that a server was given while it ran, because its pod has them not mounted. Each is known by a path, as every branch is:
 * a link to our own descriptor of it. So whoever opens the branch anew by its path, the next server of a mount too, finds
 * it once it was given the same directory.
 */
import { closeSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { FedBranch } from '../protocol/feeding.ts';
import type { ServerBranch } from '../protocol/server-config.ts';

export class FedBranches {
  readonly #directory: string;
  readonly #branches = new Map<string, { readonly branch: ServerBranch; readonly descriptor: number }>();

  /** `directory` is for the links. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  list(): readonly ServerBranch[] {
    return [...this.#branches.values()].map(({ branch }) => branch);
  }

  /** Takes the descriptor over. One that came before stays: it is in use. */
  add(fed: FedBranch, descriptor: number): ServerBranch {
    const known = this.#branches.get(fed.id);
    if (known !== undefined) {
      closeSync(descriptor);
      return known.branch;
    }
    const branch = { ...fed, path: join(this.#directory, fed.id) };
    mkdirSync(this.#directory, { recursive: true });
    rmSync(branch.path, { force: true }); // a former server's
    symlinkSync(`/proc/self/fd/${descriptor}`, branch.path);
    this.#branches.set(fed.id, { branch, descriptor });
    return branch;
  }

  /** Nobody works in them any more. */
  close(): void {
    for (const { branch, descriptor } of this.#branches.values()) {
      rmSync(branch.path, { force: true });
      closeSync(descriptor);
    }
    this.#branches.clear();
  }
}
