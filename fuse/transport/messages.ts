/** What the session's main thread gives its readers, and what they tell it. */
import type { OpsConfig } from '../ops/context.ts';

export interface ReaderData {
  readonly thread: number;
  /** Descriptors are the process's: the numbers are enough. */
  readonly stateFd: number;
  readonly deviceFd: number;
  readonly config: OpsConfig;
  /** Of meter.ts, for all readers. */
  readonly meters: SharedArrayBuffer;
  /** The CPU to stay on, or -1. */
  readonly cpu: number;
}

export type ReaderMessage =
  /** INIT was answered, or what a dead server had begun is finished. */
  | { readonly kind: 'serving' }
  | {
      readonly kind: 'log';
      readonly level: 'error' | 'warn';
      readonly event: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };
