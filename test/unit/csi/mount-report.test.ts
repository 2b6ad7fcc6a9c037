/** What is said of mounts, to an API server that is slow or away. */
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { ok } from '../../../src/base/result.ts';
import { MountReport } from '../../../src/csi/mount-report.ts';
import type { MountStatus } from '../../../src/protocol/resources.ts';
import { attachmentNameOf } from '../../../src/union/ids.ts';
import { until } from '../../support/processes.ts';

const served = { state: 'Served', message: '' } as const;
const held = { state: 'Held', message: '' } as const;
const failed = { state: 'Failed', message: 'why' } as const;

function setUp(signal = new AbortController().signal) {
  const written: [string, MountStatus][] = [];
  /** Each is what becomes of one write; without one it succeeds. */
  const fates: (() => Promise<void>)[] = [];
  const report = new MountReport(
    {
      nodeName: 'node-1',
      attachments: {
        patchStatusMerge: async ({ name }, patch) => {
          await fates.shift()?.();
          written.push([name, (patch as { status: { mount: MountStatus } }).status.mount]);
          return ok({} as never);
        },
      },
      clock: { now: () => 0, sleep: async () => {} },
      log: silentLogger,
    },
    signal,
  );
  return { report, written, fates };
}

describe('MountReport', () => {
  const name = attachmentNameOf('uv-1', 'node-1');

  it('writes the status of the attachment', async () => {
    const { report, written } = setUp();
    report.tell('uv-1', served);
    await until(() => written.length === 1);
    expect(written).to.deep.equal([[name, served]]);
  });

  it('says last what is so last, and leaves out what is not so any more', async () => {
    const { report, written, fates } = setUp();
    const gate = Promise.withResolvers<void>();
    fates.push(() => gate.promise);
    for (const status of [held, served, failed]) report.tell('uv-1', status);
    gate.resolve();
    await until(() => written.length === 2);
    expect(written).to.deep.equal([
      [name, held],
      [name, failed],
    ]);
  });

  it('tries again until the API server is there', async () => {
    const { report, written, fates } = setUp();
    for (let i = 0; i < 3; i++) fates.push(() => Promise.reject(new Error('away')));
    report.tell('uv-1', held);
    await until(() => written.length === 1);
    report.tell('uv-1', served);
    await until(() => written.length === 2);
    expect(written.map(([, { state }]) => state)).to.deep.equal(['Held', 'Served']);
  });
});
