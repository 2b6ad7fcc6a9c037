/**
 * Times of the protocol, in milliseconds of each replica's own clock.
 * Safety rests on LEASE < GRACE with room for clocks that run at different speeds: a primary counts its lease from when it
 * *sent* the hello, a backup counts its grace from when it answered. 1000 : 1300 bears clocks that differ by 20 %.
 */
export const BEAT_MS = 200;
/** The primary neither reads nor answers later than this after a hello that every in-sync peer has answered. */
export const LEASE_MS = 1000;
/** A backup does not try to become primary earlier than this after its last answer to a hello. */
export const GRACE_MS = 1300;
/** A peer that is silent, or stands still although it is behind, for so long leaves the in-sync set. */
export const EVICT_MS = 1500;
/** A primary that has had no lease for so long gives up, and its clients look elsewhere. */
export const ABDICATE_MS = 2500;
/** How often the configuration is read, and an undecided change of it repeated. */
export const REFRESH_MS = 500;
