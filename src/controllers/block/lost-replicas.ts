/**
 * Replicas of nodes that are gone for good are made elsewhere: the decision is in block/driver/replacement.ts; here it is fed, and carried out
 * by one compare-and-swap of the volume's configuration. There is no second step that could be missing: nodes and everybody
 * else go by the configuration, and `spec.members` follows it (block-volume.ts).
 * A node is lost at once when its Node is gone or has the taint by which people say so, and otherwise when it has been silent.
 */
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { DEFAULT_SPREAD } from '../../block/driver/parameters.ts';
import type { PoolFacts } from '../../block/driver/placement.ts';
import { type BlockCluster, poolFacts } from '../../block/driver/pool-facts.ts';
import { decideReplacement, type ReplacementFacts, type Verdict } from '../../block/driver/replacement.ts';
import { SilenceWatch } from '../../block/driver/silence.ts';
import { isComplete, withReplacement } from '../../block/volume-config.ts';
import type { EventRecorder } from '../../kubernetes/events.ts';
import type { Informer } from '../../kubernetes/informer.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import { type BlockPool, type BlockVolume, blockPoolName, membersOf } from '../../protocol/block-resources.ts';
import type { Node } from '../../protocol/objects.ts';
import { VolumeConfigStore } from './volume-config.ts';

const LOOK_MS = 10_000;
/** Numbers in what is said of a volume may change with every look; it is said anew no more often than this. */
const SAY_AGAIN_MS = 300_000;
/** https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-out-of-service */
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';

export interface LostReplicasOptions {
  readonly volumes: Repository<BlockVolume>;
  readonly volumeChanges: Informer<BlockVolume>;
  readonly pools: Repository<BlockPool>;
  readonly nodes: Repository<Node>;
  readonly recorder: EventRecorder;
  /** For how long a silent node is waited for. */
  readonly delayMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** What is to be said of a volume has changed. */
  readonly onRemark: (volume: string) => void;
}

interface Remark {
  readonly why: string;
  readonly message: string;
  readonly at: number;
}

/** What one look sees. */
interface Seen extends BlockCluster {
  readonly silence: ReadonlyMap<string, number>;
  /** When it was seen, however long it takes to act on it. */
  readonly now: number;
  /** By pool and label, as they are needed: many volumes share them. */
  readonly facts: Map<string, readonly PoolFacts[]>;
}

export class LostReplicas {
  readonly #options: LostReplicasOptions;
  readonly #silence = new SilenceWatch(2 * LOOK_MS);
  /** By volume. */
  #remarks: ReadonlyMap<string, Remark> = new Map();

  constructor(options: LostReplicasOptions) {
    this.#options = options;
  }

  /** What is done, or why nothing is, about a member of the volume that is lost. */
  remarkOn(volume: string): string | undefined {
    return this.#remarks.get(volume)?.message;
  }

  /** Looks again and again until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.look(signal);
      } catch (error) {
        if (!signal.aborted) log.warn('block.lost-replicas', { message: messageOf(error) });
      }
      await clock.sleep(LOOK_MS, signal).catch(() => {});
    }
  }

  async look(signal: AbortSignal): Promise<void> {
    const { pools: poolRepository, nodes: nodeRepository, volumeChanges, clock } = this.#options;
    const pools = await poolRepository.list({}, signal);
    const signs = pools.map(({ metadata, status }) => ({ name: metadata.name, lastSeen: status?.lastSeen ?? '' }));
    const now = clock.now();
    const silence = this.#silence.look(signs, now);
    const volumes = volumeChanges.list();
    const incomplete = volumes.filter(({ status }) => status?.config && !isComplete(status.config));
    const nodes = incomplete.length === 0 ? [] : await nodeRepository.list({}, signal);
    let seen: Seen = { pools, volumes, nodes, silence, now, facts: new Map() };
    const remarks = new Map<string, Remark>();
    for (const volume of incomplete) {
      const verdict = decideReplacement(volume, this.#factsFor(volume, seen));
      const { name } = volume.metadata;
      if (verdict.kind === 'wait') remarks.set(name, this.#remark(name, verdict));
      if (verdict.kind !== 'replace') continue;
      const replaced = await this.#replace(volume, verdict, signal).catch((error: unknown) => {
        this.#options.log.warn('block.lost-replicas', { volume: name, message: messageOf(error) });
      });
      if (replaced === undefined) continue;
      // The room that it takes is not there for the next ones.
      const others = seen.volumes.filter((other) => other !== volume);
      seen = { ...seen, volumes: [...others, replaced], facts: new Map() };
    }
    const before = this.#remarks;
    this.#remarks = remarks;
    for (const name of new Set([...before.keys(), ...remarks.keys()])) {
      if (before.get(name) !== remarks.get(name)) this.#options.onRemark(name);
    }
  }

  #factsFor(volume: BlockVolume, seen: Seen): ReplacementFacts {
    const { delayMs } = this.#options;
    const { pool, spread = DEFAULT_SPREAD } = volume.spec;
    const key = `${pool} ${spread}`;
    const pools = seen.facts.get(key) ?? poolFacts(seen, { pool, spread }, seen.now);
    seen.facts.set(key, pools);
    const isSilent = (node: string) => (seen.silence.get(blockPoolName(pool, node)) ?? 0) >= delayMs;
    const known = [...membersOf(volume), ...pools.map(({ node }) => node)];
    return {
      pools,
      gone: new Map(known.flatMap((name) => departureOf(name, seen.nodes))),
      silent: new Set(known.filter(isSilent)),
      delay: formatDelay(delayMs),
    };
  }

  #remark(volume: string, { why, message }: Extract<Verdict, { kind: 'wait' }>): Remark {
    const before = this.#remarks.get(volume);
    const at = this.#options.clock.now();
    return before?.why === why && at - before.at < SAY_AGAIN_MS ? before : { why, message, at };
  }

  /** The volume as it is then; undefined when somebody else has changed its configuration: it is looked at again. */
  async #replace(
    volume: BlockVolume,
    { lost, next, message }: Extract<Verdict, { kind: 'replace' }>,
    signal: AbortSignal,
  ): Promise<BlockVolume | undefined> {
    const { volumes, recorder, log } = this.#options;
    const { apiVersion, kind, metadata, status } = volume;
    const { name, uid = '' } = metadata;
    const store = new VolumeConfigStore({ volumes, known: () => undefined, name, uid, signal });
    const current = await store.read();
    // The lost member may have got in sync since the volume was looked at.
    const successor = withReplacement(current, lost, next);
    if (successor === undefined || (await store.replace(successor)).kind !== 'current') return undefined;
    log.info('block.replaced', { volume: name, lost, next });
    await recorder.emit(
      { apiVersion, kind, name, uid },
      { type: 'Normal', reason: 'ReplicaReplaced', message },
      signal,
    );
    return { ...volume, status: { ...status, config: { ...status!.config!, members: successor.members } } };
  }
}

/** How a node was declared to be gone. */
function departureOf(name: string, nodes: readonly Node[]): readonly [string, string][] {
  const node = nodes.find(({ metadata }) => metadata.name === name);
  if (node === undefined) return [[name, 'is not in the cluster any more']];
  const isTainted = node.spec?.taints?.some(({ key }) => key === OUT_OF_SERVICE);
  return isTainted ? [[name, `has the taint ${OUT_OF_SERVICE}`]] : [];
}

function formatDelay(delayMs: number): string {
  const seconds = Math.round(delayMs / 1000);
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
}
