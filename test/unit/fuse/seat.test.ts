import { expect } from 'chai';
import { OP } from '../../../fuse/protocol/abi.ts';
import { Callers, type Manner, Seat, type Surroundings } from '../../../fuse/transport/seat.ts';

const HOME = 0;
const CALLER = 77;
const OTHER = 78;

/** What a reader of a machine of four CPUs sees: its caller is on `callerCpu`, and time passes with each request. */
class Machine implements Surroundings {
  callerCpu = 2;
  isOwnGroup = true;
  isWaiting = true;
  msPerRequest = 1;
  cpu = -1;
  manner: Manner = 'ordinary';
  looks = 0;
  isWatching = false;
  isCrowded = false;
  #ms = 0;
  readonly seat: Seat;

  constructor({ home = HOME, reader = 0, callers = new Callers(Callers.memory()) } = {}) {
    this.seat = new Seat(this, { reader, callers, crowd: { sees: () => this.isCrowded }, home, cpus: [0, 1, 2] });
  }

  now = () => this.#ms;
  sitOn = (cpu: number) => {
    this.cpu = cpu;
  };
  mayBeIdle = () => this.isOwnGroup;
  become = (manner: Manner) => {
    this.manner = manner;
  };
  waitsForAnswer = () => this.isWaiting;
  cpuOf = () => {
    this.looks++;
    this.isWatching = true;
    return this.callerCpu;
  };

  forget = () => {
    this.isWatching = false;
  };

  requests(count: number, caller = CALLER, opcode: number = OP.LOOKUP): void {
    for (let i = 0; i < count; i++) {
      this.#ms += this.msPerRequest;
      this.seat.sees(caller, opcode);
    }
  }

  get place(): string {
    return `${this.manner} on ${this.cpu}${this.isWatching ? ', watching' : ''}`;
  }
}

const ATHOME = `ordinary on ${HOME}`;
const INCROWD = `batch on ${HOME}`;

describe('a reader’s seat', () => {
  it('is at home until a caller has been alone for some time', () => {
    const machine = new Machine();
    expect(machine.place).to.equal(ATHOME);
    machine.requests(200);
    expect(machine.place).to.equal(ATHOME);
    machine.requests(100);
    expect(machine.place).to.equal('idle on 2, watching');
  });

  it('stays at home for a burst of requests', () => {
    const machine = new Machine();
    machine.msPerRequest = 0.01;
    machine.requests(3000);
    expect(machine.place).to.equal(ATHOME);
    machine.requests(3000);
    expect(machine.place).to.equal('idle on 2, watching');
  });

  it('goes where the caller goes, and home when that is a CPU that it may not use', () => {
    const machine = new Machine();
    machine.requests(300);
    machine.callerCpu = 1;
    machine.requests(20);
    expect(machine.place).to.equal('idle on 1, watching');
    machine.callerCpu = 3;
    machine.requests(20);
    expect(machine.place).to.equal(ATHOME);
  });

  it('goes home when another one comes, and stays there while both do', () => {
    const machine = new Machine();
    machine.requests(300);
    for (let i = 0; i < 10; i++) {
      machine.requests(1);
      machine.requests(1, OTHER);
    }
    expect(machine.place).to.equal(ATHOME);
    for (let i = 0; i < 1000; i++) {
      machine.requests(1);
      machine.requests(1, OTHER);
    }
    expect(machine.place).to.equal(ATHOME);
    machine.requests(600, OTHER);
    expect(machine.place).to.equal('idle on 2, watching');
  });

  it('interrupts nobody in a crowd, whoever that is', () => {
    const machine = new Machine();
    machine.isCrowded = true;
    machine.requests(1, 0);
    expect(machine.place).to.equal(INCROWD);
    machine.isCrowded = false;
    machine.requests(1, 0);
    expect(machine.place).to.equal(ATHOME);
    machine.requests(300);
    machine.isCrowded = true;
    machine.requests(3, OTHER);
    expect(machine.place).to.equal('idle on 2, watching');
    machine.requests(3, OTHER);
    expect(machine.place).to.equal(INCROWD);
    machine.seat.end();
    expect(machine.place).to.equal(ATHOME);
  });

  it('puts up with a request of another one now and then', () => {
    const machine = new Machine();
    for (let i = 0; i < 1000; i++) {
      machine.requests(50);
      machine.requests(1, OTHER);
      if (i > 10) expect(machine.place).to.equal('idle on 2, watching');
    }
  });

  it('does not count what the kernel asks of its own accord', () => {
    const machine = new Machine();
    for (let i = 0; i < 300; i++) {
      machine.requests(1);
      machine.requests(1, 0, OP.RELEASE);
    }
    expect(machine.place).to.equal('idle on 2, watching');
  });

  it('is at home for data, of which much is under way at once', () => {
    const machine = new Machine();
    machine.requests(300);
    machine.requests(10, CALLER, OP.READ);
    expect(machine.place).to.equal(ATHOME);
    machine.requests(1000, CALLER, OP.WRITE);
    expect(machine.place).to.equal(ATHOME);
  });

  it('is at home while another reader sees another caller', () => {
    const callers = new Callers(Callers.memory());
    const [one, two] = [new Machine({ reader: 0, callers }), new Machine({ reader: 1, callers })];
    for (const machine of [one, two]) machine.requests(300);
    expect([one.place, two.place]).to.deep.equal(Array(2).fill('idle on 2, watching'));
    two.requests(300, OTHER);
    one.requests(300);
    expect([one.place, two.place]).to.deep.equal([ATHOME, ATHOME]);
    two.seat.end();
    one.requests(300);
    expect(one.place).to.equal('idle on 2, watching');
  });

  it('is at home where others share the scheduling group, or a caller’s number may be another process’s', () => {
    const shared = new Machine();
    shared.isOwnGroup = false;
    shared.requests(1000);
    expect(shared.place).to.equal(ATHOME);
    const foreign = new Machine();
    foreign.isWaiting = false;
    foreign.requests(1000);
    expect(foreign.place).to.equal(ATHOME);
    const joined = new Machine();
    joined.requests(300);
    joined.isOwnGroup = false;
    joined.requests(20);
    expect(joined.place).to.equal(ATHOME);
  });

  it('is not chosen where there is one CPU', () => {
    const machine = new Machine({ home: -1 });
    machine.requests(1000);
    expect([machine.place, machine.looks]).to.deep.equal(['ordinary on -1', 0]);
  });
});
