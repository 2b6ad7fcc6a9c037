/**
 * Transcripts of planning, to be read by people: in each *.txt, a command to a cluster in miniature, and below it what the
 * plan then is. Commands are those of `commands` below. `UPDATE_TRANSCRIPTS=1 mocha test/transcript` writes them anew.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect } from 'chai';
import type { AttachmentAction } from '../../src/union/plan-attachment.ts';
import type { VolumeAction } from '../../src/union/plan-volume.ts';
import { podUsing } from '../support/union-objects.ts';
import { UnionWorld } from '../support/union-world.ts';

const directory = join(import.meta.dirname, 'plan');

type Command = (world: UnionWorld, ...words: string[]) => void;

const commands: Readonly<Record<string, Command>> = {
  claim: (world, name, volume) => world.addClaim(name!, volume),
  union: (world, ...list) => world.request(list.join(' ').replaceAll(' / ', '\n')),
  attach: (world, node) => world.attach(node!),
  detach: (world, node) => world.detach(node!),
  delete: (world) => world.deleteVolume(),
  'delete-claim': (world, name) => world.deleteClaim(claimName(world, name!)),
  'take-node-away': (world, name) => world.takeNodeAway(claimName(world, name!)),
  use: (world, claim, pod) => void world.pods.set(pod!, podUsing(claim!, { name: pod! })),
  'end-pod': (world, pod) => void world.pods.delete(pod!),
  foreign: (world, branch) => {
    const name = claimName(world, branch!);
    world.addClaim(name, `pv-foreign`);
  },
  /** The named steps that others can take: `bind b0`, `reap data`, or all of them. */
  others: (world, ...words) => {
    const wanted = words.length === 0 ? undefined : `${words[0]} ${claimName(world, words[1]!)}`;
    const moves = [...world.moves()].filter(([name]) => wanted === undefined || name === wanted);
    if (moves.length === 0) throw new Error(`nobody can ${words.join(' ')}`);
    for (const [, move] of moves) move();
  },
  swap: (world, branch, volume) => world.rebind(claimName(world, branch!), volume!),
  'swap-back': (world, branch) => {
    const record = world.volume!.status!.branches!.find(({ id }) => id === branch);
    world.rebind(claimName(world, branch!), record!.persistentVolume!);
  },
  grow: (world, size) => {
    const { volume } = world;
    const branches = volume!.spec.branches.map((branch) => ({
      ...branch,
      sizeBytes: String(BigInt(size!) * 1024n ** 3n),
    }));
    world.volume = {
      ...volume!,
      metadata: { ...volume!.metadata, generation: 2 },
      spec: { ...volume!.spec, branches, capacityBytes: String(BigInt(size!) * BigInt(branches.length) * 1024n ** 3n) },
    };
  },
};

/** `b0` stands for the lower claim of that branch. */
function claimName({ volume }: UnionWorld, word: string): string {
  return /^b\d+$/.test(word) ? `${volume!.metadata.name}-${word}` : word;
}

function play(text: string): string {
  const world = new UnionWorld();
  const output: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('  ')) continue;
    output.push(line);
    if (line === '' || line.startsWith('#')) continue;
    const [name = '', ...words] = line.split(' ');
    const command = commands[name];
    if (!command && name !== 'plan' && name !== 'plan-only') throw new Error(`unknown command ${name}`);
    command?.(world, ...words);
    if (!command) output.push(...planned(world, words[0], name === 'plan'));
  }
  const id = world.volume?.metadata.name;
  return output
    .map((line) => (id === undefined ? line : line.replaceAll(id, 'UNION')))
    .join('\n')
    .replace(/u[va]-[0-9a-f]{32}/g, (found) => (found.startsWith('ua') ? 'ATTACHMENT' : 'UNION'));
}

/** `plan` acts on the union's plan, `plan NODE` on the attachment's, `plan-only` shows it and is killed. */
function planned(world: UnionWorld, node: string | undefined, act: boolean): string[] {
  if (node !== undefined) {
    const actions = world.planAttachment(node);
    if (act) for (const action of actions) world.applyAttachment(node, action);
    return actions.length === 0 ? ['  nothing to do'] : actions.flatMap(describeAction);
  }
  const actions = world.planVolume();
  if (act) for (const action of actions) world.applyVolume(action);
  return actions.length === 0 ? ['  nothing to do'] : actions.flatMap(describeAction);
}

function describeAction(action: VolumeAction | AttachmentAction): string[] {
  switch (action.kind) {
    case 'event':
      return [`  event ${action.event.type} ${action.event.reason}: ${action.event.message}`];
    case 'update-status': {
      const { status } = action;
      const branches = 'branches' in status ? (status.branches ?? []) : [];
      return [
        `  status ${status.phase}: ${status.conditions?.[0]?.message}`,
        ...branches.map(({ id, phase, message }) => `    ${id} ${phase}${message === undefined ? '' : `: ${message}`}`),
      ];
    }
    case 'create-claim': {
      const { metadata, spec } = action.claim;
      const node = metadata.annotations?.['volume.kubernetes.io/selected-node'];
      const where = node === undefined ? '' : ` on ${node}`;
      return [
        `  create-claim ${metadata.namespace}/${metadata.name} ${spec?.storageClassName} ${spec?.resources?.requests?.storage}${where}`,
      ];
    }
    case 'create-pod':
      return [`  create-pod ${action.pod.metadata.namespace}/${action.pod.metadata.name}`];
    case 'delete-pod':
      return [`  delete-pod ${action.pod.namespace}/${action.pod.name}`];
    case 'add-finalizer':
    case 'delete-union':
    case 'remove-finalizer':
      return [`  ${action.kind}`];
    default:
      return [`  ${action.kind} ${action.claim.namespace}/${action.claim.name}`];
  }
}

describe('transcripts of planning', () => {
  for (const file of readdirSync(directory).filter((name) => name.endsWith('.txt'))) {
    it(basename(file, '.txt').replaceAll('-', ' '), () => {
      const path = join(directory, file);
      const text = readFileSync(path, 'utf8');
      const played = play(text);
      if (process.env.UPDATE_TRANSCRIPTS) writeFileSync(path, played);
      else expect(played).to.equal(text);
    });
  }
});
