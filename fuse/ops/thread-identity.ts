/** As whom a thread makes files. What it is already costs no system call. */
import * as libc from '../sys/libc.ts';

export class ThreadIdentity {
  #uid = 0;
  #gid = 0;
  #umask = -1;

  assume(uid: number, gid: number, umask: number): void {
    if (gid !== this.#gid) libc.setfsgid(gid);
    if (uid !== this.#uid) libc.setfsuid(uid);
    if (umask !== this.#umask) libc.umask(umask);
    this.#uid = uid;
    this.#gid = gid;
    this.#umask = umask;
  }
}
