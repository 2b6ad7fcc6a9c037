/**
 * Whether the place of a member that is lost is given to another node, to which one, and why not. Pure: all facts come as arguments.
 *
 * Only who is not in sync is replaced, one member at a time, and while somebody in sync is there to fill the new one. Nothing is while
 * more than one and more than a third of a pool's nodes are silent: that is how a network that is cut, or power that has failed,
 * looks from here. It passes, and to copy a third of all there is would make it worse.
 */
import { type BlockVolume, membersOf } from '../../protocol/block-resources.ts';
import { DEFAULT_SPREAD } from './parameters.ts';
import { type PoolFacts, placeReplicas, SILENT_LIMIT_MS } from './placement.ts';
import { bytesOf } from './pool-facts.ts';

export interface ReplacementFacts {
  /** Of the volume's pool and label. */
  readonly pools: readonly PoolFacts[];
  /** Nodes that somebody has declared to be gone, and how, as the end of a sentence about the node. */
  readonly gone: ReadonlyMap<string, string>;
  /** Nodes that have been silent for longer than they are waited for. */
  readonly silent: ReadonlySet<string>;
  /** How long that is, in words. */
  readonly delay: string;
}

/** Messages are for people. */
export type Verdict =
  /** Nothing is to be replaced. */
  | { readonly kind: 'nothing' }
  | { readonly kind: 'wait'; readonly why: Obstacle['why'] | 'delay'; readonly message: string }
  | { readonly kind: 'replace'; readonly lost: string; readonly next: string; readonly message: string };

interface Obstacle {
  readonly why: 'many-silent' | 'nobody-in-sync' | 'another-first' | 'no-place';
  readonly message: string;
}

export function decideReplacement(volume: BlockVolume, facts: ReplacementFacts): Verdict {
  const { config } = volume.status ?? {};
  // Before anybody has led it there is nothing to be copied.
  if (config === undefined || volume.metadata.deletionTimestamp) return { kind: 'nothing' };
  const behind = config.members.filter((node) => !config.inSync.includes(node));
  const lost = behind.find((node) => lossOf(node, facts) !== undefined);
  if (lost === undefined) {
    const silent = behind.filter((node) => facts.pools.some((pool) => pool.node === node && isSilent(pool)));
    if (silent.length === 0) return { kind: 'nothing' };
    const message = `the replica on ${silent.join(' and ')} is made elsewhere once nothing has been heard of there for ${facts.delay}`;
    return { kind: 'wait', why: 'delay', message };
  }
  const loss = `${lost} ${lossOf(lost, facts)}`;
  const obstacle =
    manySilent(volume, facts) ?? nobodyInSync(config.inSync, facts) ?? anotherFirst(volume, behind, facts);
  const next = placeFor(volume, lost, facts);
  if (obstacle === undefined && next.ok) {
    const [node = ''] = next.value;
    return {
      kind: 'replace',
      lost,
      next: node,
      message: `the replica on ${lost} is replaced by one on ${node}: ${loss}`,
    };
  }
  const { why, message } = obstacle ?? { why: 'no-place', message: next.ok ? '' : next.error };
  return { kind: 'wait', why, message: `${loss}; its replica is not made elsewhere: ${message}` };
}

function lossOf(node: string, { gone, silent, delay }: ReplacementFacts): string | undefined {
  return gone.get(node) ?? (silent.has(node) ? `has not been heard of for ${delay}` : undefined);
}

function isSilent({ silentMs }: PoolFacts): boolean {
  return silentMs > SILENT_LIMIT_MS;
}

/** Nodes of the pool that are there. */
function present({ pools, gone, silent }: ReplacementFacts): readonly string[] {
  const isThere = (pool: PoolFacts) => !isSilent(pool) && !gone.has(pool.node) && !silent.has(pool.node);
  return pools.filter(isThere).map(({ node }) => node);
}

function manySilent({ spec }: BlockVolume, facts: ReplacementFacts): Obstacle | undefined {
  // Those that are declared to be gone are no riddle any more.
  const nodes = facts.pools.filter(({ node }) => !facts.gone.has(node));
  const there = present(facts);
  const silent = nodes.map(({ node }) => node).filter((node) => !there.includes(node));
  if (silent.length <= 1 || silent.length * 3 <= nodes.length) return undefined;
  const message =
    `${silent.length} of ${nodes.length} nodes of pool "${spec.pool}" are silent (${silent.sort().join(', ')}), as when a network ` +
    'is cut or power fails; bring them back, or take those that are gone for good out of the cluster';
  return { why: 'many-silent', message };
}

function nobodyInSync(inSync: readonly string[], facts: ReplacementFacts): Obstacle | undefined {
  if (present(facts).some((node) => inSync.includes(node))) return undefined;
  return { why: 'nobody-in-sync', message: `${inSync.join(' and ')}, in sync at last, is not there to copy from` };
}

function anotherFirst(
  { status }: BlockVolume,
  behind: readonly string[],
  facts: ReplacementFacts,
): Obstacle | undefined {
  const there = present(facts);
  const other = behind.find((node) => there.includes(node) && status?.replicas?.[node]?.phase !== 'Failed');
  return other === undefined ? undefined : { why: 'another-first', message: `that on ${other} gets in sync first` };
}

/** With somebody who has nothing of the volume, else with a former member, whose files lie there until the volume is complete. */
function placeFor(volume: BlockVolume, lost: string, facts: ReplacementFacts) {
  const { pool, spread = DEFAULT_SPREAD } = volume.spec;
  const { config, replicas = {} } = volume.status ?? {};
  const members = membersOf(volume);
  const isLost = (node: string) => !config?.inSync.includes(node) && lossOf(node, facts) !== undefined;
  const beside = members.filter((node) => !isLost(node));
  const replicaBytes = bytesOf(volume);
  const others = facts.pools.filter(({ node }) => node !== lost && (beside.includes(node) || !lossOf(node, facts)));
  const isFormer = ({ node }: PoolFacts) => replicas[node] !== undefined && !members.includes(node);
  const place = (candidates: readonly PoolFacts[]) =>
    placeReplicas(candidates, { replicas: 1, replicaBytes, pool, spread, beside });
  const unused = place(others.filter((each) => !isFormer(each)));
  if (unused.ok) return unused;
  // The room that it takes there is that of its files.
  const returned = others
    .filter((each) => !isFormer(each) || replicas[each.node]?.phase !== 'Failed')
    .map((each) => (isFormer(each) ? { ...each, reservedBytes: each.reservedBytes - replicaBytes } : each));
  return place(returned);
}
