/** Requests with descriptors over real sockets; after each test this process has as many descriptors open as before. */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { UnionError } from '../../../src/base/errors.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { callDescriptorServer, holdDescriptorServer, takeDescriptors } from '../../../src/host/descriptor-client.ts';
import { sendMessage } from '../../../src/host/descriptor-message.ts';
import {
  type DescriptorRequest,
  DescriptorServer,
  MAX_LINE_BYTES,
  WithDescriptors,
} from '../../../src/host/descriptor-server.ts';
import { until } from '../../support/processes.ts';

const signal = () => AbortSignal.timeout(60_000);

describe('descriptor socket', () => {
  let directory: string;
  let path: string;
  let before: readonly string[];
  const servers: DescriptorServer[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'descriptor-socket-'));
    path = join(directory, 'server.sock');
    before = openFiles();
  });

  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close();
    rmSync(directory, { recursive: true });
    await until(() => openFiles().length <= before.length);
    expect(openFiles()).to.have.length(before.length);
  });

  function serve(
    handle: (request: DescriptorRequest, signal: AbortSignal) => Promise<unknown>,
    at = path,
  ): DescriptorServer {
    const server = new DescriptorServer({ path: at, handle, log: silentLogger });
    servers.push(server);
    return server;
  }

  it('answers a request', async () => {
    serve(async ({ message, descriptors }) => ({ ok: true, echo: message, descriptors }));
    const answer = await callDescriptorServer({ path, message: { op: 'status' } }, signal());
    expect(answer).to.deep.equal({ ok: true, echo: { op: 'status' }, descriptors: [] });
  });

  it('passes an open descriptor, which stays open at the sender', async () => {
    writeFileSync(join(directory, 'file'), 'content');
    serve(async ({ descriptors: [descriptor] }) => {
      const buffer = Buffer.alloc(16);
      const length = readSync(descriptor!, buffer);
      closeSync(descriptor!);
      return { ok: true, read: buffer.toString('utf8', 0, length) };
    });
    const fd = openSync(join(directory, 'file'), 'r');
    const answer = await callDescriptorServer({ path, message: {}, descriptors: [fd] }, signal());
    expect(answer).to.deep.equal({ ok: true, read: 'content' });
    expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).to.match(/^pos:\s+7/m);
    closeSync(fd);
  });

  it('gives descriptors with an answer, which stay open here', async () => {
    writeFileSync(join(directory, 'file'), 'content');
    const fd = openSync(join(directory, 'file'), 'r');
    serve(async () => new WithDescriptors({ ok: true }, [fd]));
    const { answer, descriptors, connection } = await takeDescriptors({ path, message: {} }, signal());
    expect(answer).to.deep.equal({ ok: true });
    expect(descriptors.map((each) => readFileSync(each, 'utf8'))).to.deep.equal(['content']);
    for (const each of [fd, ...descriptors]) closeSync(each);
    connection.close();
  });

  it('tells whoever holds a connection that there is news, and when the server has ended', async () => {
    const server = serve(async ({ message }) => ({ echo: message }));
    const { connection } = await holdDescriptorServer({ path, message: 1 }, signal());
    let hasEnded = false;
    const ended = connection.ended.then(() => {
      hasEnded = true;
    });
    server.nudge();
    await connection.nudged;
    expect(hasEnded).to.equal(false);
    await server.close();
    await ended;
  });

  it('works at paths longer than sun_path', async () => {
    const deep = join(directory, 'd'.repeat(100), 'e'.repeat(100));
    mkdirSync(deep, { recursive: true });
    const at = join(deep, 'server.sock');
    serve(async () => ({ ok: true }), at);
    expect(await callDescriptorServer({ path: at, message: {} }, signal())).to.deep.equal({ ok: true });
  });

  it('answers many callers at once, each with its own descriptor', async () => {
    serve(async ({ message, descriptors: [descriptor] }) => {
      const buffer = Buffer.alloc(16);
      const length = readSync(descriptor!, buffer, 0, 16, 0);
      closeSync(descriptor!);
      return { message, read: buffer.toString('utf8', 0, length) };
    });
    const answers = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const file = join(directory, String(index));
        writeFileSync(file, String(index));
        const fd = openSync(file, 'r');
        try {
          return await retryWhileFull(() =>
            callDescriptorServer({ path, message: index, descriptors: [fd] }, signal()),
          );
        } finally {
          closeSync(fd);
        }
      }),
    );
    expect(answers).to.deep.equal(Array.from({ length: 40 }, (_, index) => ({ message: index, read: String(index) })));
  });

  it('answers a request that comes in pieces, and several that come together, in order', async () => {
    serve(async ({ message }) => ({ echo: message }));
    const socket = createConnection(path);
    socket.write('{"a"');
    await new Promise((done) => setImmediate(done));
    socket.write(':1}\n{"b":2}\n{"c":3}\n');
    expect(await readUntil(socket, (text) => text.split('\n').length > 3)).to.equal(
      '{"echo":{"a":1}}\n{"echo":{"b":2}}\n{"echo":{"c":3}}\n',
    );
  });

  it('turns errors of the handler into failures with their code', async () => {
    serve(async () => {
      throw new UnionError('FAILED_PRECONDITION', 'branch b1 is gone');
    });
    const answer = await callDescriptorServer({ path, message: {} }, signal());
    expect(answer).to.deep.equal({ ok: false, code: 'FAILED_PRECONDITION', message: 'branch b1 is gone' });
  });

  it('refuses what is not JSON', async () => {
    serve(async () => ({ ok: true }));
    const socket = createConnection(path);
    socket.write('hello\n');
    expect(await readUntil(socket, (text) => text.endsWith('\n'))).to.include('a request is not a line of JSON');
  });

  it('refuses a line without end and closes', async () => {
    serve(async () => ({ ok: true }));
    const socket = createConnection(path);
    socket.on('error', () => {}); // the rest of what we send is refused
    socket.write('x'.repeat(MAX_LINE_BYTES + 1));
    expect(await readUntil(socket, (text) => text.endsWith('\n'))).to.include('a request is longer than 65536 bytes');
  });

  it('closes descriptors of requests that never end', async () => {
    serve(async () => ({ ok: true }));
    const fd = openSync('/dev/null', 'r');
    const socket = createConnection(path);
    await new Promise((done) => socket.once('connect', done));
    const raw = (socket as unknown as { _handle: { fd: number } })._handle.fd;
    const own = nullDescriptors();
    sendMessage(raw, Buffer.from('{"op"'), [fd]);
    await until(() => nullDescriptors() === own + 1);
    socket.destroy();
    await until(() => nullDescriptors() === own);
    closeSync(fd);
  });

  it('is UNAVAILABLE where nobody listens', async () => {
    const error = await failureOf(callDescriptorServer({ path, message: {} }, signal()));
    expect(error).to.include({ code: 'UNAVAILABLE' });
    expect(error.message).to.equal(`nobody answers at ${path}: connect: ENOENT`);
  });

  it('is UNAVAILABLE when the peer ends before it answers', async () => {
    const peer = createServer((socket) => socket.destroy());
    await new Promise<void>((done) => peer.listen(path, done));
    const error = await failureOf(callDescriptorServer({ path, message: {} }, signal()));
    expect(error).to.include({ code: 'UNAVAILABLE' });
    await new Promise((done) => peer.close(done));
  });

  it('ends with the signal when the handler does not answer', async () => {
    const handled = Promise.withResolvers<void>();
    serve(async (_, closing) => {
      handled.resolve();
      await new Promise((_, reject) => closing.addEventListener('abort', () => reject(closing.reason)));
    });
    const abort = new AbortController();
    const call = failureOf(callDescriptorServer({ path, message: {} }, abort.signal));
    await handled.promise;
    abort.abort(new Error('enough'));
    expect((await call).message).to.equal('enough');
  });

  it('refuses a path on which another process listens', async () => {
    serve(async () => ({ ok: true }));
    expect(() => serve(async () => ({ ok: true }))).to.throw(`another process listens on ${path}`);
  });

  it('replaces the socket of a process that was killed, and removes its own', async () => {
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((done) => child.stdout.once('data', done));
    child.kill('SIGKILL');
    await new Promise((done) => child.once('close', done));
    expect(existsSync(path)).to.equal(true);
    const server = serve(async () => ({ ok: true }));
    expect(await callDescriptorServer({ path, message: {} }, signal())).to.deep.equal({ ok: true });
    await server.close();
    expect(existsSync(path)).to.equal(false);
  });
});

function openFiles(): readonly string[] {
  return readdirSync('/proc/self/fd');
}

function nullDescriptors(): number {
  return openFiles().filter((fd) => linkOf(fd) === '/dev/null').length;
}

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  return await promise.then(
    (value) => expect.fail(`answered ${JSON.stringify(value)}`),
    (error: unknown) => error as Error,
  );
}

async function retryWhileFull<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnionError) || !error.message.includes('EAGAIN')) throw error;
      await new Promise((done) => setImmediate(done));
    }
  }
}

async function readUntil(socket: import('node:net').Socket, enough: (text: string) => boolean): Promise<string> {
  let text = '';
  socket.setEncoding('utf8');
  for await (const chunk of socket) {
    text += chunk;
    if (enough(text)) break;
  }
  socket.destroy();
  return text;
}
