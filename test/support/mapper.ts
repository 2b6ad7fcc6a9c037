/**
 * A process that maps 16 pages of a file shared, and then, for each line of its input, stores the line's first byte into a page that was
 * not touched before and says what it reads from there, and from the page before.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

const program = `
  import koffi from 'koffi';
  import { openSync, closeSync } from 'node:fs';
  import { createInterface } from 'node:readline';
  const libc = koffi.load('libc.so.6');
  const fd = openSync(process.argv[1], 'r+');
  const address = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)')(null, 65536, 3, 1, fd, 0);
  closeSync(fd);
  const bytes = new Uint8Array(koffi.view(address, 65536));
  let page = 0;
  console.log('mapped');
  for await (const line of createInterface({ input: process.stdin })) {
    page++;
    bytes[4096 * page] = line.charCodeAt(0);
    console.log(String.fromCharCode(bytes[4096 * page], bytes[4096 * (page - 1)]));
  }
`;

export class Mapper {
  readonly child: ChildProcess;

  constructor(path: string) {
    this.child = spawn(process.execPath, ['--input-type=module', '-e', program, path], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.child.stdout!.setEncoding('utf8');
  }

  /** What it says next. */
  async said(): Promise<string> {
    const [text] = (await once(this.child.stdout!, 'data')) as [string];
    return text.trim();
  }

  async store(letter: string): Promise<string> {
    const said = this.said();
    this.child.stdin!.write(`${letter}\n`);
    return await said;
  }
}
