/** The journal: what is left after a crash at any byte. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Journal, type JournalEntry } from '../../../../src/embedded/api-server/journal.ts';
import { configMaps, namespaces } from '../../../../src/embedded/api-server/kinds.ts';
import { Store } from '../../../../src/embedded/api-server/store.ts';

const WRITER = new URL('./journal-writer.ts', import.meta.url).pathname;

function entry(resourceVersion: number): JournalEntry {
  const metadata = { name: 'ä', uid: 'u', resourceVersion: String(resourceVersion), creationTimestamp: 't' };
  const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata };
  return { resourceVersion, kindKey: 'configmaps', objectKey: `n/${resourceVersion}`, object };
}

describe('Journal', () => {
  let directory = '';
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'journal-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const path = () => join(directory, 'journal.jsonl');

  function reopen(): ReturnType<typeof Journal.open>['state'] {
    const { journal, state } = Journal.open(directory);
    journal.close();
    return state;
  }

  it('keeps every entry that was written whole, whatever byte the file ends at', () => {
    const { journal } = Journal.open(directory);
    for (const number of [1, 2, 3]) journal.append(entry(number));
    journal.close();
    const whole = readFileSync(path());
    for (let length = 0; length <= whole.length; length++) {
      writeFileSync(path(), whole.subarray(0, length));
      const lines = whole.subarray(0, length).toString('latin1').split('\n').length - 1;
      const { entries } = reopen();
      expect(entries.length).to.equal(Math.max(0, lines - 1), `cut at ${length}`);
    }
  });

  it('goes on after a torn line', () => {
    const { journal } = Journal.open(directory);
    journal.append(entry(1));
    journal.close();
    appendFileSync(path(), '{"resourceVersion":2,"kind');
    const again = Journal.open(directory);
    again.journal.append(entry(2));
    again.journal.close();
    expect(reopen().entries.map(({ resourceVersion }) => resourceVersion)).to.deep.equal([1, 2]);
  });

  it('names file and line when the middle is damaged', () => {
    const { journal } = Journal.open(directory);
    journal.append(entry(1));
    journal.close();
    appendFileSync(path(), 'garbage\n');
    expect(() => Journal.open(directory)).to.throw(`${path()} is damaged at line 3`);
  });

  it('remembers the last number through a compaction', () => {
    const { journal } = Journal.open(directory);
    for (const number of [1, 2, 3]) journal.append(entry(number));
    journal.compact({ resourceVersion: 7, entries: [entry(2)] });
    journal.append(entry(8));
    journal.close();
    const { entries, resourceVersion } = reopen();
    expect(entries).to.deep.equal([entry(2), entry(8)]);
    expect(resourceVersion).to.equal(8);
  });

  it('loses nothing that a killed process had been told was written', async () => {
    // The last one is far enough to compact on the way.
    for (const lines of [1, 40, 5500]) {
      const child = spawn(process.execPath, [WRITER, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
      let told = '';
      let count = 0;
      child.stdout.on('data', (chunk: Buffer) => {
        told += chunk.toString();
        count += chunk.filter((byte) => byte === 0x0a).length;
        if (count >= lines) child.kill('SIGKILL');
      });
      await once(child, 'close');
      const last = Number(told.split('\n').at(-2));
      const store = new Store({ directory });
      const value = store.get(configMaps, { namespace: 'default', name: 'counter' })?.data?.value;
      // One write may have been kept without being told.
      expect(Number(value)).to.be.within(last, last + 1);
      expect(store.get(namespaces, { name: 'default' })).to.not.equal(undefined);
      const before = Number(store.resourceVersion);
      store.create(configMaps, { metadata: { namespace: 'default', generateName: 'x-' } });
      expect(Number(store.resourceVersion)).to.equal(before + 1);
      store.close();
    }
    expect(readFileSync(path()).filter((byte) => byte === 0x0a).length).to.be.lessThan(5100, 'was never compacted');
  });
});
