/** Loop devices whose maker's mount namespace has ended, as that of a container that was replaced. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { systemClock } from '../../../src/base/clock.ts';
import { detachLoop, loopDevices, loopsOf } from '../../../src/host/loop-device.ts';
import { loop, needs } from '../../support/skip.ts';

const module = new URL('../../../src/host/loop-device.ts', import.meta.url);
const signal = new AbortController().signal;

describe('a loop device whose mount namespace has ended', () => {
  before(function () {
    needs(this, loop);
  });

  it('is found and let go by its record, which says nothing of other devices after that', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'union-loop-'));
    try {
      const of = { file: join(folder, 'shown'), record: join(folder, 'record') };
      for (const path of [of.file, join(folder, 'behind')]) writeFileSync(path, '');
      truncateSync(join(folder, 'behind'), 1 << 20);
      const attach = `const { attachLoop } = await import('${module}');
        process.stdout.write(await attachLoop(${JSON.stringify(of)}, { readOnly: false }, new AbortController().signal));`;
      const script = 'mount -t tmpfs none /mnt; cp "$1" /mnt/behind; mount --bind /mnt/behind "$2"; exec "$3" -e "$4"';
      const words = ['sh', '-ec', script, 'sh', join(folder, 'behind'), of.file, process.execPath, attach];
      const { stdout: device } = await promisify(execFile)('unshare', [
        '--mount',
        '--propagation',
        'private',
        ...words,
      ]);
      expect((await loopDevices(signal)).find((each) => each.device === device)?.file).to.equal('/');
      expect((await loopsOf(of, signal)).map((each) => each.device)).to.deep.equal([device]);
      await detachLoop(of, systemClock, signal);
      expect(await loopsOf(of, signal)).to.deep.equal([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
