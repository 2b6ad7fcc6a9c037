/**
 * Tells the controller how mounts of this node are: `status.mount` of their UnionAttachments, of which it makes conditions and
 * events. What cannot be written is tried again, unless there is something newer to say.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Repository } from '../kubernetes/repository.ts';
import type { MountStatus, UnionAttachment } from '../protocol/resources.ts';
import { attachmentNameOf } from '../union/ids.ts';

export interface MountReportOptions {
  readonly nodeName: string;
  readonly attachments: Pick<Repository<UnionAttachment>, 'patchStatusMerge'>;
  readonly clock: Clock;
  readonly log: Logger;
}

const RETRY_MS = 2_000;

export class MountReport {
  readonly #options: MountReportOptions;
  readonly #signal: AbortSignal;
  /** By volume: what is to be said, while it has not been. */
  readonly #unsaid = new Map<string, MountStatus>();

  constructor(options: MountReportOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  tell(volumeId: string, status: MountStatus): void {
    const isUnderway = this.#unsaid.has(volumeId);
    this.#unsaid.set(volumeId, status);
    if (!isUnderway) void this.#say(volumeId);
  }

  async #say(volumeId: string): Promise<void> {
    const { nodeName, attachments, clock, log } = this.#options;
    for (let said: MountStatus | undefined; !this.#signal.aborted; ) {
      const mount = this.#unsaid.get(volumeId);
      if (mount === undefined || mount === said) break;
      try {
        // A refusal means that the attachment is gone: nobody wants to know.
        await attachments.patchStatusMerge(
          { name: attachmentNameOf(volumeId, nodeName) },
          { status: { mount } },
          this.#signal,
        );
        said = mount;
      } catch (error) {
        log.warn('mount_report.failed', { volumeId, error: messageOf(error) });
        await clock.sleep(RETRY_MS, this.#signal).catch(() => {});
      }
    }
    this.#unsaid.delete(volumeId);
  }
}
