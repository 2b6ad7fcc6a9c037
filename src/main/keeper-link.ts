/** The channel of a server to its keeper (kept-process.ts). When the keeper dies, another one is started, which is told as the first was. */
import type { ChildProcess } from 'node:child_process';
import { UnionError } from '../base/errors.ts';
import { type KeptMount, ownDescriptors, ROLE, send, startKept, type ToKeeper, type ToServer } from './kept-process.ts';

export class KeeperLink {
  readonly #mount: KeptMount;
  #keeper: NodeJS.Process | ChildProcess = process;
  #ended = false;
  #upgrade: PromiseWithResolvers<void> | undefined;
  readonly #makeWay: () => Promise<void>;

  /** `makeWay` does what is to be done before this process is killed. */
  constructor(mount: KeptMount, makeWay: () => Promise<void>) {
    this.#mount = mount;
    this.#makeWay = makeWay;
    process.on('message', this.#onMessage);
    if (process.connected) process.on('disconnect', this.#startAgain);
    else this.#startAgain();
  }

  tell(message: ToKeeper): void {
    send(this.#keeper, message);
  }

  /** Has another server take over, of the program as it is installed now. Resolves when it is about to; rejects with why not. */
  upgrade(): Promise<void> {
    if (this.#upgrade === undefined) {
      this.#upgrade = Promise.withResolvers();
      this.tell('upgrade');
    }
    return this.#upgrade.promise;
  }

  end(): void {
    this.#ended = true;
    this.tell('ended');
    if (this.#keeper.connected) this.#keeper.disconnect?.();
  }

  readonly #onMessage = (message: ToServer): void => {
    if (message === 'make way') {
      this.#upgrade?.resolve();
      // After whoever asked for it has got the answer.
      setImmediate(() => void this.#makeWay().finally(() => process.kill(process.pid, 'SIGKILL')));
    } else if (typeof message === 'object') this.#refuse(message.refused);
  };

  #refuse(reason: string): void {
    this.#upgrade?.reject(new UnionError('FAILED_PRECONDITION', reason));
    this.#upgrade = undefined;
  }

  readonly #startAgain = (): void => {
    if (this.#ended) return;
    this.#refuse('the keeper of the mount has died; try again');
    const keeper = startKept(ROLE.keeper, this.#mount, ownDescriptors(this.#mount));
    keeper.on('message', this.#onMessage).on('disconnect', this.#startAgain);
    this.#keeper = keeper;
  };
}
