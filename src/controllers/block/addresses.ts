/** Where nodes say they are reached: `host:port`, the host of IPv6 in brackets. */
import type { PeerAddress } from '../../host/block/peer-network.ts';

export function formatAddress({ host, port }: PeerAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Undefined for what is none. */
export function parseAddress(text: string | undefined): PeerAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text ?? '');
  const host = match?.[1] ?? match?.[2];
  return host === undefined ? undefined : { host, port: Number(match![3]) };
}
