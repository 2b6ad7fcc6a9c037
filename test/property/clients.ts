/** Two processes that do what the model does, and the comparison of their answers with its own. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Answer, Question } from '../support/model/client.ts';
import type { ModelFilesystem } from '../support/model/filesystem.ts';
import type { Facts, Listed, Operation } from '../support/model/operations.ts';
import { killed } from '../support/processes.ts';

const program = fileURLToPath(new URL('../support/model/client.ts', import.meta.url));
/** Of time that we ran: whoever is stopped meanwhile, and its clients with it, has lost no patience. */
const answerLimitSeconds = 60;
/** Handles and listings belong to one client. */
const PER_CLIENT = 10;

export class Clients {
  readonly #processes: readonly ChildProcess[] = [fork(program), fork(program)];
  /** Inode numbers by the model's. */
  #numbers = new Map<string, string>();

  async begin(root: string): Promise<void> {
    this.#numbers = new Map();
    for (const client of this.#processes) await ask(client, { kind: 'begin', root });
  }

  /** Has one do an operation, and the model too. Answers how their answers differ, or undefined. */
  async compare(model: ModelFilesystem, client: number, operation: Operation): Promise<string | undefined> {
    const own = ownHandles(operation, client);
    const wanted = askModel(model, own);
    const answer = await ask(this.#processes[client]!, { kind: 'do', operation });
    if ('code' in wanted || 'code' in answer)
      return JSON.stringify(answer) === JSON.stringify(wanted) ? undefined : describe(wanted, answer);
    switch (own.op) {
      case 'lstat':
      case 'fstat':
        return this.#compareFacts(wanted.value as Facts, answer.value as Facts);
      case 'readdir':
        return this.#compareNames(wanted.value as Listed[], answer.value as Listed[]);
      case 'list': {
        const entries = answer.value as Listed[];
        const wrong = model.listings.take(own.listing, entries);
        if (wrong !== undefined) return wrong;
        const ids = model.listings.idsOf(own.listing);
        return this.#compareIds(entries.map(({ name, id }) => [ids.get(name), id]));
      }
      default:
        return JSON.stringify(answer) === JSON.stringify(wanted) ? undefined : describe(wanted, answer);
    }
  }

  async close(): Promise<void> {
    for (const client of this.#processes) await killed(client);
  }

  #compareFacts(wanted: Facts, found: Facts): string | undefined {
    const known = { ...found, id: wanted.id, ...(wanted.mtime === undefined && { mtime: undefined }) };
    if (JSON.stringify(sorted(known)) !== JSON.stringify(sorted(wanted)))
      return describe({ value: sorted(wanted) }, { value: sorted(found) });
    return this.#compareIds([[wanted.id, found.id]]);
  }

  #compareNames(wanted: readonly Listed[], found: readonly Listed[]): string | undefined {
    const names = (entries: readonly Listed[]) => entries.map(({ name }) => name).sort();
    if (names(wanted).join('/') !== names(found).join('/')) return describe({ value: wanted }, { value: found });
    const ids = new Map(wanted.map(({ name, id }) => [name, id]));
    return this.#compareIds(found.map(({ name, id }) => [ids.get(name), id]));
  }

  /** A file keeps its inode number under every name and through every change. */
  #compareIds(pairs: readonly (readonly [id: string | undefined, number: string])[]): string | undefined {
    for (const [id, number] of pairs) {
      if (id === undefined) continue;
      const known = this.#numbers.get(id);
      if (known === undefined) this.#numbers.set(id, number);
      else if (known !== number) return `inode number ${number}, which was ${known}`;
    }
    return undefined;
  }
}

function sorted(facts: object): object {
  return Object.fromEntries(
    Object.entries(facts)
      .filter(([, value]) => value !== undefined)
      .sort(),
  );
}

function describe(wanted: Answer, answer: Answer): string {
  return `wanted ${JSON.stringify(wanted).slice(0, 1000)}, found ${JSON.stringify(answer).slice(0, 1000)}`;
}

function ownHandles(operation: Operation, client: number): Operation {
  const own = PER_CLIENT * client;
  const from = operation.op === 'copy' ? { from: operation.from + own } : {};
  if ('handle' in operation) return { ...operation, handle: operation.handle + own, ...from } as Operation;
  return 'listing' in operation ? { ...operation, listing: operation.listing + own } : operation;
}

function askModel(model: ModelFilesystem, operation: Operation): Answer {
  try {
    return { value: model.apply(operation) };
  } catch (code) {
    if (typeof code !== 'string') throw code;
    return { code };
  }
}

async function ask(client: ChildProcess, question: Question): Promise<Answer> {
  const impatience = new AbortController();
  let seconds = 0;
  const ticking = setInterval(() => {
    seconds++;
    if (seconds === answerLimitSeconds) impatience.abort(new Error(`no answer to ${JSON.stringify(question)}`));
  }, 1000);
  try {
    const answered = once(client, 'message', { signal: impatience.signal });
    client.send(question);
    const [answer] = (await answered) as [Answer];
    return answer;
  } finally {
    clearInterval(ticking);
  }
}
