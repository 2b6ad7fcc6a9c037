/** Makes the faults of a plan happen. Crashes at an effect are the machines' own business (node.ts). */
import { assertNever } from '../../src/base/assert.ts';
import { contentOf } from './custody.ts';
import type { Fault } from './plan.ts';
import type { World } from './world.ts';

export function inflict(world: World, fault: Fault): void {
  if (fault.kind === 'crash') return;
  world.queue.after(fault.at, () => {
    if (happens(world, fault)) world.count(name(fault));
  });
}

function name(fault: Fault): string {
  if (fault.kind === 'disk-error') return fault.error;
  if (fault.kind === 'lie') return `${fault.lie}-${fault.lie === 'wipe' ? 'disk' : fault.area}`;
  return fault.kind;
}

function happens(world: World, fault: Exclude<Fault, { kind: 'crash' }>): boolean {
  const { queue, nodes } = world;
  switch (fault.kind) {
    case 'blackout':
      for (const index of fault.nodes) nodes[index]!.crash('power', fault.downMs);
      return true;
    case 'disk-error':
      nodes[fault.node]!.disk.failNext(fault.error);
      return true;
    case 'slow-disk':
      nodes[fault.node]!.slowUntil = queue.now + fault.forMs;
      return true;
    case 'lie':
      return lie(world, fault);
    case 'swap':
      return swap(world);
    case 'cut':
      world.cuts.set(`${fault.from}>${fault.to}`, queue.now + fault.forMs);
      return true;
    case 'isolate-api':
      world.isolated.set(fault.node, queue.now + fault.forMs);
      return true;
    case 'api-unsure':
      world.store.lossRate = 0.4;
      queue.after(fault.forMs, () => {
        world.store.lossRate = 0;
      });
      return true;
    case 'lose':
      world.custody?.lose(fault);
      return true;
    case 'pause':
      nodes[fault.node]!.pause(fault.forMs);
      return true;
    case 'noise':
      world.noise = { until: queue.now + fault.forMs, drop: fault.drop, double: fault.double };
      return true;
    default:
      return assertNever(fault);
  }
}

function lie(world: World, fault: Extract<Fault, { kind: 'lie' }>): boolean {
  const node = world.nodes[fault.node]!;
  const told = () => {
    node.intact = false;
    world.judgeIntactness();
  };
  switch (fault.lie) {
    case 'drop':
    case 'misdirect':
      node.disk.onLie = told;
      node.disk.lieNext(fault.lie, fault.area);
      return true;
    case 'flip':
      if (!node.disk.flip(fault.area)) return false;
      told();
      return true;
    case 'wipe':
      node.crash('power');
      node.disk.wipe();
      told();
      return true;
  }
}

/**
 * Two machines come up with each other's disk, notice it, and get their own back later. A blank disk is nothing to be noticed: a replica would be
 * made on it, and then set back to what it was (README.md, "What is not proved").
 */
function swap(world: World): boolean {
  const [a, b] = world.nodes;
  if (a === undefined || b === undefined || [a, b].some((node) => contentOf(node) === 'nothing')) return false;
  const exchange = () => {
    a.crash('power');
    b.crash('power');
    [a.disk, b.disk] = [b.disk, a.disk];
  };
  exchange();
  world.queue.after(3000, exchange);
  return true;
}
