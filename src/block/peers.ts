/**
 * The other members as the primary sees them: what each has on its disk, until when it lends its lease, what was sent to it;
 * who has to leave the in-sync set and who may join it.
 * A member counts as in sync from before its joining is proposed until after its leaving is decided.
 */
import type { Context } from './context.ts';
import type { Message, PeerStatus } from './messages.ts';
import { type ClientTraffic, rebuildPeer } from './rebuild-source.ts';
import { BEAT_MS, EVICT_MS, LEASE_MS } from './timing.ts';
import { type Epoch, isAhead, type Point, type ReplicaId, samePoint } from './units.ts';
import { withMember, withoutMember } from './volume-config.ts';

/** Batches on their way to one peer. */
const MAX_WINDOW = 16;

export interface Peer {
  readonly id: ReplicaId;
  status: PeerStatus | undefined;
  heardAt: number;
  leaseUntil: number;
  /** When it last got further, or had nothing to do. */
  movedAt: number;
  /** The end of what was sent, a boundary of this log; undefined while there is nothing in common. */
  sent: Point | undefined;
  sentAt: number;
  inFlight: number;
  rebuilding: boolean;
  /** No rebuild begins before: one that has just failed would fail again. */
  rebuildFrom: number;
}

export class Peers {
  readonly #context: Context;
  readonly #epoch: Epoch;
  readonly #clients: ClientTraffic;
  readonly #peers = new Map<ReplicaId, Peer>();
  #members: readonly ReplicaId[] = [];
  #inSyncPeers: { readonly of: readonly ReplicaId[]; readonly peers: readonly Peer[] } = { of: [], peers: [] };
  #beatAt = Number.NEGATIVE_INFINITY;
  #session = 0;
  #greeting = false;
  #established = false;
  #ended = false;

  constructor(context: Context, epoch: Epoch, clients: ClientTraffic) {
    this.#clients = clients;
    this.#context = context;
    this.#epoch = epoch;
    this.#follow();
  }

  /** A member that is lost may have given its place to another (`withReplacement`). Nobody in sync does. */
  #follow(): void {
    const { id: self, membership, now } = this.#context;
    const members = membership.config?.members ?? [];
    if (members === this.#members) return;
    this.#members = members;
    for (const id of this.#peers.keys()) if (!members.includes(id)) this.#peers.delete(id);
    for (const id of members) if (id !== self && !this.#peers.has(id)) this.#peers.set(id, newPeer(id, now()));
  }

  /** From now on members are told of this epoch: the primary itself has promised it. */
  greet(): void {
    this.#greeting = true;
  }

  /**
   * From now on members may join: this replica knows what is committed. Before its EPOCH record is, it knows less than
   * earlier primaries have answered for, and would take one that lacks some of that.
   */
  establish(): void {
    this.#established = true;
  }

  end(): void {
    this.#ended = true;
  }

  get #inSync(): readonly Peer[] {
    const { inSync } = this.#context.membership;
    if (this.#inSyncPeers.of !== inSync) {
      this.#follow();
      this.#inSyncPeers = { of: inSync, peers: inSync.flatMap((id) => this.#peers.get(id) ?? []) };
    }
    return this.#inSyncPeers.peers;
  }

  heard(from: ReplicaId, message: Extract<Message, { kind: 'status' }>): void {
    const peer = this.#peers.get(from);
    if (peer === undefined) return;
    const now = this.#context.now();
    const { status, beat } = message;
    const progressed = peer.status === undefined || status.durable.lsn > peer.status.durable.lsn;
    peer.status = status;
    peer.heardAt = now;
    if (beat !== undefined && status.usable) peer.leaseUntil = Math.max(peer.leaseUntil, beat + LEASE_MS);
    if (progressed || this.isCaughtUp(peer)) peer.movedAt = now;
    if (progressed) {
      peer.sentAt = now;
      peer.inFlight = Math.max(0, peer.inFlight - 1);
    }
    if (peer.sent === undefined) peer.sent = this.#common(status);
    this.stream();
  }

  /** Where the peer's log can go on; undefined when only a rebuild helps. */
  #common(status: PeerStatus): Point | undefined {
    const { log } = this.#context.store;
    if (!status.usable && status.rebuild === undefined) return undefined;
    return [status.durable, status.committed].find((point) => log.has(point));
  }

  /** Whether the peer has all that this replica's log has. */
  isCaughtUp(peer: Peer): boolean {
    return peer.status !== undefined && samePoint(peer.status.durable, this.#context.store.log.last);
  }

  advance(): void {
    const now = this.#context.now();
    this.#follow();
    if (this.#greeting && now - this.#beatAt >= BEAT_MS) this.#beat(now);
    if (!this.#greeting) return;
    this.#evictOne(now);
    if (!this.#established) return;
    this.#admitOne();
    for (const peer of this.#peers.values()) this.#considerRebuild(peer);
  }

  #beat(now: number): void {
    this.#beatAt = now;
    const { store } = this.#context;
    const { committed } = store;
    for (const peer of this.#peers.values()) {
      this.#send(peer, { kind: 'hello', epoch: this.#epoch, beat: now, committed });
      // Nothing has come of what was sent: begin again at what the peer has.
      if (peer.status && now - peer.sentAt > BEAT_MS && !this.isCaughtUp(peer)) {
        peer.sent = this.#common(peer.status);
        peer.inFlight = 0;
      }
    }
    this.stream();
  }

  #send(peer: Peer, message: Message): void {
    this.#context.send(peer.id, message);
  }

  /** Sends what peers lack, as far as their windows allow. */
  stream(): void {
    const { store } = this.#context;
    for (const peer of this.#peers.values()) {
      while (peer.sent !== undefined && peer.inFlight < MAX_WINDOW) {
        const batch = store.log.after(peer.sent);
        if (batch === undefined) break;
        const { parts } = batch;
        this.#send(peer, { kind: 'append', epoch: this.#epoch, committed: store.committed, parts });
        peer.sent = batch.end;
        peer.sentAt = this.#context.now();
        peer.inFlight++;
      }
    }
  }

  hasLease(): boolean {
    const { decisions, now } = this.#context;
    return this.#inSync.every((peer) => decisions.holds(peer.leaseUntil, now()));
  }

  allInSyncAnswered(): boolean {
    return this.#inSync.every((peer) => peer.status?.usable);
  }

  inSyncCount(): number {
    return this.#context.membership.config?.inSync.length ?? 0;
  }

  /** What every member that may be in sync has; undefined while one of them has nothing in common with this log. */
  inSyncPoints(): readonly Point[] | undefined {
    const { store } = this.#context;
    const points = [store.durable];
    for (const peer of this.#inSync) {
      const point = peer.status?.usable ? peer.status.durable : undefined;
      if (point === undefined || !store.log.has(point)) return undefined;
      points.push(point);
    }
    return points;
  }

  /** The usable in-sync peer with the longest log; for `content`, only of those that can read all of theirs. */
  furthest(what: 'log' | 'content'): { readonly id: ReplicaId; readonly point: Point } | undefined {
    const { config } = this.#context.membership;
    return this.#inSync
      .filter((peer) => peer.status?.usable && config?.inSync.includes(peer.id))
      .filter((peer) => what === 'log' || peer.status?.intact)
      .map((peer) => ({ id: peer.id, point: peer.status!.durable }))
      .reduce<{ id: ReplicaId; point: Point } | undefined>(
        (best, candidate) => (best === undefined || isAhead(candidate.point, best.point) ? candidate : best),
        undefined,
      );
  }

  #evictOne(now: number): void {
    const { membership } = this.#context;
    if (membership.config === undefined || membership.proposal !== undefined) return;
    const hopeless = this.#inSync.find((peer) => {
      const { status } = peer;
      const silent = now - Math.max(peer.heardAt, peer.leaseUntil - LEASE_MS) > EVICT_MS;
      const stuck = !this.isCaughtUp(peer) && now - peer.movedAt > EVICT_MS;
      if (silent || stuck || status === undefined) return silent || stuck;
      // A damaged block is no reason before it is known whose log reaches furthest.
      return this.#common(status) === undefined || !status.usable || (this.#established && !status.intact);
    });
    if (hopeless) membership.propose(withoutMember(membership.config, hopeless.id), now);
  }

  #admitOne(): void {
    const { membership, store } = this.#context;
    const { config, proposal } = membership;
    if (config === undefined || proposal !== undefined) return;
    const now = this.#context.now();
    for (const peer of this.#peers.values()) {
      const { status } = peer;
      if (config.inSync.includes(peer.id) || peer.rebuilding || now >= peer.leaseUntil) continue;
      if (!status?.usable || !status.intact) continue;
      if (status.durable.lsn < store.committed.lsn || !store.log.has(status.durable)) continue;
      peer.movedAt = now;
      membership.propose(withMember(config, peer.id), now);
      return;
    }
  }

  #considerRebuild(peer: Peer): void {
    const { membership, start, store } = this.#context;
    if (peer.rebuilding || this.#context.now() < peer.rebuildFrom || peer.status === undefined) return;
    if (membership.inSync.includes(peer.id)) return;
    const { usable, intact } = peer.status;
    if (usable && intact && this.#common(peer.status) !== undefined) return;
    peer.rebuilding = true;
    const session = ++this.#session;
    start(
      rebuildPeer({
        context: this.#context,
        epoch: this.#epoch,
        session,
        start: store.committed,
        blocks: store.committedBlocks,
        peer,
        send: (message) => this.#send(peer, message),
        hasEnded: () => this.#ended || this.#peers.get(peer.id) !== peer,
        clients: this.#clients,
      }),
    );
  }
}

function newPeer(id: ReplicaId, now: number): Peer {
  return {
    id,
    status: undefined,
    heardAt: now,
    leaseUntil: Number.NEGATIVE_INFINITY,
    movedAt: now,
    sent: undefined,
    sentAt: now,
    inFlight: 0,
    rebuilding: false,
    rebuildFrom: now,
  };
}
