/**
 * A union does what a filesystem does: random operations by two processes on it and on a model in memory, with every answer
 * compared, and at the end the view with the model and with the branches. MODEL_RUNS makes it longer.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Answer, Question } from '../support/file-client.ts';
import { ModelFilesystem, type Node, type Operation } from '../support/model-filesystem.ts';
import { killed } from '../support/processes.ts';
import { fuse, loop, needs } from '../support/skip.ts';
import { describeTree, type Entry, mergeTrees, readTree } from '../support/tree.ts';
import { makeUnion, type TestUnion } from '../support/union-mount.ts';

const mebibyte = 1024 ** 2;
const numRuns = Number(process.env.MODEL_RUNS ?? 40);

const name = fc.constantFrom('a', 'b', 'c', 'd');
/** A path: one that exists when its turn comes, or a name below a directory that does. */
interface Operand {
  readonly nth: number;
  readonly below: string | undefined;
}
const operand: fc.Arbitrary<Operand> = fc.record({ nth: fc.nat(), below: fc.option(name, { nil: undefined }) });
const fresh: fc.Arbitrary<Operand> = fc.record({ nth: fc.nat(), below: name });
const text = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 20, unit: 'grapheme-ascii' }) },
  { weight: 1, arbitrary: fc.constant('long '.repeat(2000)) },
);
const handle = fc.nat({ max: 2 });
const size = fc.nat({ max: 5000 });

/** An operation whose paths are still to be chosen. */
interface Draft {
  readonly op: Operation['op'];
  readonly path?: Operand;
  readonly to?: Operand;
}

const draft: fc.Arbitrary<Draft> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('mkdir', 'symlink'), path: fresh }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('create'), path: fresh, text }) },
  {
    weight: 5,
    arbitrary: fc.record({ op: fc.constantFrom('rmdir', 'unlink', 'readdir', 'lstat', 'read'), path: operand }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constantFrom('rename', 'rename', 'exchange', 'noreplace', 'link'),
      path: operand,
      to: fc.oneof(operand, fresh),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('truncate'), path: operand, size }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('chmod'), path: operand, mode: fc.constantFrom(0o600, 0o755, 0o1770) }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('open'), path: operand, handle }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('write'), handle, offset: size, text }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('fread', 'fstat', 'close'), handle }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('ftruncate'), handle, size }) },
) as fc.Arbitrary<Draft>;

const steps = fc.array(fc.record({ client: fc.nat({ max: 1 }), draft }), {
  minLength: 40,
  maxLength: 120,
  size: 'max',
});

/** Chooses the paths of an operation from what the model has now. */
function choose(model: ModelFilesystem, { path, to, ...rest }: Draft): Operation {
  const known = [...treeOf(model)];
  const directories = ['', ...known.filter(([, { kind }]) => kind === 'directory').map(([at]) => at)];
  const pick = ({ nth, below }: Operand) => {
    if (below === undefined && known.length > 0) return known[nth % known.length]![0];
    const directory = directories[nth % directories.length]!;
    return directory === '' ? (below ?? 'a') : `${directory}/${below ?? 'a'}`;
  };
  return { ...rest, ...(path && { path: pick(path) }), ...(to && { to: pick(to) }) } as Operation;
}

/** The model's tree in the shape of what is read from disk. */
function treeOf(model: ModelFilesystem): Map<string, Entry> {
  const tree = new Map<string, Entry>();
  const visit = (node: Node, at: string) => {
    if (at !== '') {
      const content = node.kind === 'file' ? node.bytes.toString('latin1') : node.kind === 'link' ? node.target : '';
      tree.set(at, { kind: node.kind, text: content, mode: node.kind === 'link' ? 0o777 : node.mode });
    }
    if (node.kind !== 'directory') return;
    for (const [child, inner] of node.children) visit(inner, at === '' ? child : `${at}/${child}`);
  };
  visit(model.root, '');
  return tree;
}

class Client {
  readonly process: ChildProcess = fork(fileURLToPath(new URL('../support/file-client.ts', import.meta.url)));

  async ask(question: Question): Promise<Answer> {
    const answered = once(this.process, 'message', { signal: AbortSignal.timeout(10_000) });
    this.process.send(question);
    const [answer] = (await answered) as [Answer];
    return answer;
  }
}

function askModel(model: ModelFilesystem, asked: Operation, client: number): Answer {
  // Handles belong to one client.
  const own = 'handle' in asked ? { ...asked, handle: asked.handle + 10 * client } : asked;
  try {
    return { value: model.apply(own) };
  } catch (code) {
    if (typeof code !== 'string') throw code;
    return { code };
  }
}

for (const passthrough of [true, false]) {
  describe(`a union against a model, ${passthrough ? 'passthrough' : 'proxied'}`, function () {
    this.timeout(60_000 + numRuns * 2000);
    let union: TestUnion | undefined;
    const clients: Client[] = [];
    let runs = 0;

    before(async function () {
      needs(this, fuse, loop);
      union = await makeUnion({
        sizesBytes: [64 * mebibyte, 64 * mebibyte, 64 * mebibyte],
        library: { passthrough, create: 'rand' },
      });
      clients.push(new Client(), new Client());
    });

    after(async () => {
      for (const client of clients) await killed(client.process);
      await union?.close();
    });

    it('answers as the model, shows what it has, and keeps that on the branches', async () => {
      await fc.assert(
        fc.asyncProperty(steps, async (list) => {
          const run = `run${runs++}`;
          const root = join(union!.mountpoint, run);
          mkdirSync(root);
          for (const client of clients) await client.ask({ kind: 'begin', root });
          const model = new ModelFilesystem();
          for (const [index, step] of list.entries()) {
            const operation = choose(model, step.draft);
            const wanted = askModel(model, operation, step.client);
            const answer = await clients[step.client]!.ask({ kind: 'do', operation });
            expect(
              JSON.stringify(answer),
              `step ${index}, client ${step.client}: ${JSON.stringify(operation)}`,
            ).to.equal(JSON.stringify(wanted));
          }
          const seen = describeTree(readTree(root));
          expect(seen.join('\n')).to.equal(describeTree(treeOf(model)).join('\n'));
          const lower = union!.branches.map((branch) => readTree(join(branch, run)));
          expect(describeTree(mergeTrees(lower)).join('\n')).to.equal(seen.join('\n'));
          expect(union!.output()).to.equal('');
        }),
        { numRuns, endOnFailure: process.env.MODEL_SHRINK === undefined },
      );
    });
  });
}
