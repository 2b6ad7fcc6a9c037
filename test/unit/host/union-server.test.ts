/** The server's states, with a union that does nothing. */
import { closeSync, fstatSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import type { WithDescriptors } from '../../../src/host/descriptor-server.ts';
import { FedBranches } from '../../../src/host/fed-branches.ts';
import { type OpenOptions, type ServedUnion, UnionServer } from '../../../src/host/union-server.ts';
import type { ServerBranch } from '../../../src/protocol/server-config.ts';
import type { ServedBranch } from '../../../src/protocol/server-control.ts';

const signal = new AbortController().signal;
let directory: string;

describe('UnionServer', () => {
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'union-server-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('waits with open branches until it is asked to serve', async () => {
    const { server } = setUp();
    expect(await ask(server, { op: 'status' })).to.include({
      ok: true,
      volume: 'uv-1',
      state: 'waiting',
      pid: process.pid,
    });
    expect(server.serving).to.equal(false);
  });

  it('serves, ends with the session, and has closed the branches then', async () => {
    const { server, unions, ended } = setUp();
    expect(await serve(server)).to.deep.equal({ ok: true });
    expect(await ask(server, { op: 'status' })).to.include({ state: 'serving' });
    ended.resolve();
    await server.idle();
    expect(await ask(server, { op: 'status' })).to.include({ state: 'ended' });
    expect(unions.map(({ closed }) => closed)).to.deep.equal([true, true]);
  });

  it('adds a branch that it is fed, once, under a path that leads to it', async () => {
    const { server, unions } = setUp();
    await serve(server);
    writeFileSync(join(directory, 'file'), 'on the branch');
    expect(await feed(server, 'b1')).to.deep.equal({ ok: true });
    expect(await feed(server, 'b1')).to.deep.equal({ ok: true });
    const [branch, ...more] = unions.at(-1)!.branches;
    expect(more).to.deep.equal([]);
    expect(branch).to.include({ id: 'b1', mode: 'NC', minFreeSpaceBytes: 7 });
    expect(readFileSync(join(branch!.path, 'file'), 'utf8')).to.equal('on the branch');
  });

  it('keeps what it is fed before it serves, for the opening, and lets go of it at stop', async () => {
    const before = openFiles();
    const { server, fed, unions } = setUp();
    await feed(server, 'b1');
    expect(unions.flatMap(({ branches }) => branches)).to.deep.equal([]);
    expect(fed.list().map(({ id }) => id)).to.deep.equal(['b1']);
    await ask(server, { op: 'stop' });
    expect(fed.list()).to.deep.equal([]);
    expect(openFiles()).to.equal(before);
    expect(readdirSync(join(directory, 'branches'))).to.deep.equal([]);
  });

  it('adds it for reading only to a union that is read only', async () => {
    const { server, unions } = setUp();
    await serve(server, true);
    await feed(server, 'b1');
    expect(unions.at(-1)!.branches[0]).to.include({ mode: 'RO' });
  });

  it('refuses to be fed what is no branch', async () => {
    const { server } = setUp();
    expect(await feed(server, '../b1')).to.include({ ok: false, code: 'INVALID_ARGUMENT' });
    expect(await ask(server, { op: 'feed', branch: fedBranch('b1') })).to.include({ code: 'INVALID_ARGUMENT' });
  });

  it('acknowledges stop only when the session is over', async () => {
    const { server, unions, ended } = setUp();
    await serve(server);
    const stopped = ask(server, { op: 'stop' });
    ended.resolve();
    expect(await stopped).to.deep.equal({ ok: true });
    expect(unions.every(({ closed }) => closed)).to.equal(true);
  });

  it('refuses to stop while it is mounted', async () => {
    const { server, ended } = setUp();
    await serve(server);
    const answer = await server.handle({ message: { op: 'stop' }, descriptors: [] }, AbortSignal.abort());
    expect(answer).to.include({ ok: false, code: 'FAILED_PRECONDITION' });
    expect(answer).to.include({ message: 'volume uv-1 is still mounted; unmount it first' });
    ended.resolve();
  });

  it('does not say so of one that is unmounted, and takes long to close', async () => {
    const { server, ended, mount } = setUp();
    await serve(server);
    mount.exists = false;
    expect(await server.handle({ message: { op: 'stop' }, descriptors: [] }, AbortSignal.abort())).to.deep.equal({
      ok: false,
      code: 'UNAVAILABLE',
      message: 'volume uv-1 is unmounted, but not closed yet; repeat the call',
    });
    const stopped = ask(server, { op: 'stop' });
    setTimeout(ended.resolve, 2_100); // longer than it waits for a mount
    expect(await stopped).to.deep.equal({ ok: true });
  });

  it('does not begin with a mount that has ended while it waited', async () => {
    const { server, unions, ended, mount } = setUp();
    await serve(server);
    const next = serve(server);
    mount.exists = false;
    ended.resolve();
    const message = 'volume uv-1 was unmounted meanwhile; mount it again';
    expect(await next).to.deep.equal({ ok: false, code: 'UNAVAILABLE', message });
    expect(unions).to.have.length(2);
    expect(unions.every(({ closed }) => closed)).to.equal(true);
  });

  it('stops once what it has begun to serve is over, as when its caller has given up and unmounted', async () => {
    const { server, init } = setUp(undefined, 'the mount ended');
    init.hold();
    const served = serve(server);
    const stopped = ask(server, { op: 'stop' });
    init.release();
    expect(await stopped).to.deep.equal({ ok: true });
    expect(await served).to.include({ ok: false, code: 'UNAVAILABLE' });
  });

  it('serves the next mount once the one before it is over', async () => {
    const { server, ended } = setUp();
    await serve(server);
    const next = serve(server);
    ended.resolve();
    expect(await next).to.deep.equal({ ok: true });
  });

  it('stops no mount that was served while stop waited', async () => {
    const { server, unions, ended, init } = setUp();
    await serve(server);
    init.hold();
    const next = serve(server);
    let isStopped = false;
    const stopped = ask(server, { op: 'stop' }).finally(() => (isStopped = true));
    ended.resolve();
    while (unions.length < 3) await setImmediate();
    await setImmediate();
    expect(isStopped).to.equal(false);
    expect(unions.at(-1)).to.include({ closed: false });
    init.release();
    expect(await next).to.deep.equal({ ok: true });
    expect(await stopped).to.deep.equal({ ok: true });
  });

  it('can be stopped again and again, and serve again afterwards', async () => {
    const { server, unions, ended } = setUp();
    for (let i = 0; i < 10; i++) expect(await ask(server, { op: 'stop' })).to.deep.equal({ ok: true });
    expect(await serve(server)).to.deep.equal({ ok: true });
    expect(unions.filter(({ closed }) => !closed)).to.have.length(1);
    ended.resolve();
    await server.idle();
  });

  it('refuses a second serve, and closes its descriptor', async () => {
    const { server, ended } = setUp();
    await serve(server);
    const descriptor = openSync('/dev/null', 'r');
    const answer = await server.handle(
      {
        message: { op: 'serve', device: '0:1', readOnly: false },
        descriptors: [descriptor, openSync('/dev/null', 'r')],
      },
      AbortSignal.abort(),
    );
    expect(answer).to.include({ ok: false, message: 'volume uv-1 is still mounted; unmount it first' });
    expect(() => fstatSync(descriptor)).to.throw('EBADF');
    ended.resolve();
  });

  it('refuses serve without a descriptor', async () => {
    const { server } = setUp();
    const answer = await ask(server, { op: 'serve', device: '0:1', readOnly: false });
    expect(answer).to.include({ ok: false, code: 'INVALID_ARGUMENT' });
  });

  it('closes a descriptor that came with something else', async () => {
    const { server } = setUp();
    for (const message of [{ op: 'status' }, { op: 'dance' }, 7]) {
      const descriptor = openSync('/dev/null', 'r');
      await server.handle({ message, descriptors: [descriptor] }, signal);
      expect(() => fstatSync(descriptor)).to.throw('EBADF');
    }
  });

  it('opens the branches read only when it is to serve so', async () => {
    const { server, unions, ended } = setUp();
    await serve(server, true);
    expect(unions.at(-1)).to.include({ readOnly: true });
    ended.resolve();
  });

  it('changes nothing on the branches before it serves', () => {
    expect(setUp().unions).to.deep.equal([{ readOnly: true, closed: false, branches: [] }]);
  });

  it('gives back what it serves with, and nothing before and after', async () => {
    const { server, ended } = setUp();
    expect(await ask(server, { op: 'custody' })).to.include({ ok: false, code: 'FAILED_PRECONDITION' });
    await serve(server, true);
    const given = (await ask(server, { op: 'custody' })) as WithDescriptors;
    expect(given.answer).to.deep.equal({ ok: true, device: '0:1', readOnly: true });
    expect(given.descriptors).to.have.length(2);
    for (const descriptor of given.descriptors) fstatSync(descriptor);
    ended.resolve();
    await server.idle();
    for (const descriptor of given.descriptors) expect(() => fstatSync(descriptor)).to.throw('EBADF');
    expect(await ask(server, { op: 'custody' })).to.include({ ok: false });
  });

  it('makes way when it serves: finishes what it has begun, answers, and dies', async () => {
    const { server, done, died } = setUp();
    expect(await ask(server, { op: 'make-way' })).to.include({ ok: false, message: 'volume uv-1 is not served' });
    await serve(server);
    expect(await ask(server, { op: 'make-way' })).to.deep.equal({ ok: true });
    expect(done).to.deep.equal(['handed over']);
    await died.promise;
  });

  it('says whether it could go on with state memory, and closes the descriptor', async () => {
    const { server, unreadable } = setUp();
    for (const [why, answer] of [
      [undefined, { ok: true }],
      ['version 9', { ok: false, code: 'FAILED_PRECONDITION', message: 'version 9' }],
    ] as const) {
      if (why !== undefined) unreadable.current = why;
      const descriptor = openSync('/dev/null', 'r');
      expect(await server.handle({ message: { op: 'check' }, descriptors: [descriptor] }, signal)).to.deep.equal(
        answer,
      );
      expect(() => fstatSync(descriptor)).to.throw('EBADF');
    }
    expect(await ask(server, { op: 'check' })).to.include({ ok: false, code: 'INVALID_ARGUMENT' });
  });

  it('says that it is leaving', async () => {
    const { server } = setUp();
    expect(await ask(server, { op: 'status' })).to.include({ leaving: false });
    server.isLeaving = true;
    expect(await ask(server, { op: 'status' })).to.include({ leaving: true });
  });

  it('says why the branches cannot be opened, and tries again at the next status', async () => {
    const { server, fail } = setUp('branch b1 is gone');
    expect(await ask(server, { op: 'status' })).to.include({ state: 'failed', message: 'branch b1 is gone' });
    expect(await serve(server)).to.include({ ok: false, code: 'UNAVAILABLE', message: 'branch b1 is gone' });
    fail(undefined);
    expect(await ask(server, { op: 'status' })).to.include({ state: 'waiting' });
  });

  it('is not idle while it begins to serve', async () => {
    const { server, ended, init } = setUp();
    init.hold();
    const answer = serve(server);
    let idle = false;
    const waited = server.idle().then(() => {
      idle = true;
    });
    expect(server.serving).to.equal(true);
    init.release();
    await answer;
    expect(idle).to.equal(false);
    ended.resolve();
    await waited;
  });

  it('has closed everything when serving fails', async () => {
    const { server, unions } = setUp(undefined, 'no INIT');
    expect(await serve(server)).to.include({ ok: false, message: 'cannot serve volume uv-1: no INIT' });
    expect(unions.every(({ closed }) => closed)).to.equal(true);
    expect(server.serving).to.equal(false);
  });
});

interface Record {
  readonly readOnly: boolean;
  closed: boolean;
  readonly branches: ServerBranch[];
}

function servedBranch({ id, path, mode }: ServerBranch): ServedBranch {
  const figures = { totalBytes: 0, usedBytes: 0, availableBytes: 0, files: 0 };
  return { id, path, mode, health: 'ok', message: '', ...figures };
}

function setUp(openFails?: string, serveFails?: string) {
  const ended = Promise.withResolvers<void>();
  const died = Promise.withResolvers<void>();
  const done: string[] = [];
  const unreadable: { current?: string } = {};
  const mount = { exists: true };
  const unions: Record[] = [];
  const fed = new FedBranches(join(directory, 'branches'));
  let failure = openFails;
  let initialised = Promise.resolve();
  let release = () => {};
  const init = {
    hold: () => {
      const gate = Promise.withResolvers<void>();
      initialised = gate.promise;
      release = gate.resolve;
    },
    release: () => release(),
  };
  const open = ({ readOnly, state }: OpenOptions): ServedUnion => {
    if (failure !== undefined) throw new Error(failure);
    const record: Record = { readOnly, closed: false, branches: [] };
    unions.push(record);
    return {
      branches: async () => record.branches.map(servedBranch),
      addBranch: async (branch) => void record.branches.push(branch),
      close: async () => {
        record.closed = true;
        if (state !== undefined) closeSync(state);
      },
      serve: async () => {
        await initialised;
        if (serveFails !== undefined) throw new Error(serveFails);
        return { ended: ended.promise, handOver: async () => void done.push('handed over') };
      },
    };
  };
  const server = new UnionServer({
    ...{ volumeId: 'uv-1', open, fed, log: silentLogger },
    unreadable: () => unreadable.current,
    isMounted: () => mount.exists,
    die: () => {
      done.push('died');
      died.resolve();
    },
  });
  return {
    server,
    fed,
    unions,
    ended,
    done,
    died,
    unreadable,
    mount,
    init,
    fail: (message: string | undefined) => (failure = message),
  };
}

function ask(server: UnionServer, message: unknown) {
  return server.handle({ message, descriptors: [] }, signal);
}

const fedBranch = (id: string) => ({ id, mode: 'NC', minFreeSpaceBytes: 7 });

function feed(server: UnionServer, id: string) {
  const descriptors = [openSync(directory, 'r')];
  return server.handle({ message: { op: 'feed', branch: fedBranch(id) }, descriptors }, signal);
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

function serve(server: UnionServer, readOnly = false) {
  const descriptors = [openSync('/dev/null', 'r'), openSync('/dev/null', 'r')];
  return server.handle({ message: { op: 'serve', device: '0:1', readOnly }, descriptors }, signal);
}
