/**
 * Where the server of each union in custody is, for a node plugin that is started anew: while one pod makes way for another, the
 * attachment tells of the one that is to follow, and the one that serves is known nowhere else. A small file for each, below
 * the plugin's directory. One that is missing or wrong does no harm: then the attachment is all there is.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { replaceFile } from '../host/replace-file.ts';
import { DRIVER_NAME } from '../protocol/resources.ts';

export class ServerRecords {
  readonly #directory: string;
  readonly #log: Logger;

  constructor(kubeletDir: string, log: Logger) {
    this.#directory = join(kubeletDir, 'plugins', DRIVER_NAME, 'servers');
    this.#log = log;
  }

  /** The path of its socket, if it was ever held here. */
  socketOf(volumeId: string): string | undefined {
    const path = this.#path(volumeId);
    try {
      return path && readFileSync(path, 'utf8');
    } catch {
      return undefined; // there is none
    }
  }

  write(volumeId: string, socket: string): void {
    this.#try(volumeId, (path) => {
      mkdirSync(this.#directory, { recursive: true });
      replaceFile(path, socket);
    });
  }

  remove(volumeId: string): void {
    this.#try(volumeId, (path) => {
      rmSync(path, { force: true });
      // Nothing of ours stays where there is no union.
      if (existsSync(this.#directory) && readdirSync(this.#directory).length === 0) rmdirSync(this.#directory);
    });
  }

  /** A full disk is no reason not to serve. */
  #try(volumeId: string, action: (path: string) => void): void {
    const path = this.#path(volumeId);
    try {
      if (path !== undefined) action(path);
    } catch (error) {
      this.#log.warn('custodian.not_recorded', { volumeId, error: messageOf(error) });
    }
  }

  /** Volumes are told by the source of a mount: anything may be in there. */
  #path(volumeId: string): string | undefined {
    return /^[0-9a-z][0-9a-z-]*$/.test(volumeId) ? join(this.#directory, volumeId) : undefined;
  }
}
