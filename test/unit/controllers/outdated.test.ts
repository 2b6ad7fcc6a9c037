/** Whose server is replaced next, when all are of another version. */
import { expect } from 'chai';
import { mayReplace, nextOutdated } from '../../../src/controllers/outdated.ts';
import type { Pod } from '../../../src/protocol/objects.ts';
import {
  ANNOTATION_IMAGE,
  LABEL_ATTACHMENT,
  LABEL_BRANCH,
  type UnionAttachment,
} from '../../../src/protocol/resources.ts';

interface ServerFacts {
  readonly attachment: string;
  readonly image?: string;
  readonly isEnding?: boolean;
  readonly isFeeder?: boolean;
}

/** Attachments a1, a2, … are on node-1, b1, … on node-2. */
function clusterWith(servers: readonly ServerFacts[]) {
  const pods = servers.map(
    ({ attachment, image = 'old', isEnding = false, isFeeder = false }, index): Pod => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: `pod-${index}`,
        labels: { [LABEL_ATTACHMENT]: attachment, ...(isFeeder && { [LABEL_BRANCH]: 'b1' }) },
        annotations: { [ANNOTATION_IMAGE]: image },
        ...(isEnding && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
      },
    }),
  );
  const attachment = (name: string) => ({ spec: { node: name.startsWith('a') ? 'node-1' : 'node-2' } });
  const view = {
    pods: { informer: { list: () => pods } },
    attachments: { informer: { get: (name: string) => attachment(name) as UnionAttachment } },
  };
  return { view, server: { image: 'new' } } as never;
}

describe('the replacement of servers', () => {
  it('goes on with the next name on the node, and with the first one again', () => {
    const cluster = clusterWith(['a3', 'a1', 'b2', 'a2'].map((attachment) => ({ attachment })));
    expect(nextOutdated(cluster, 'a1', { wraps: false })).to.equal('a2');
    expect(nextOutdated(cluster, 'a2', { wraps: true })).to.equal('a3');
    expect(nextOutdated(cluster, 'a3', { wraps: true })).to.equal('a1');
    expect(nextOutdated(cluster, 'a3', { wraps: false })).to.equal(undefined);
  });

  it('leaves out what is of our version, is ending, or is no server', () => {
    const cluster = clusterWith([
      { attachment: 'a1', image: 'new' },
      { attachment: 'a2', isEnding: true },
      { attachment: 'a3', isFeeder: true },
    ]);
    expect(nextOutdated(cluster, 'a0', { wraps: true })).to.equal(undefined);
  });

  it('waits while another one on the node has two pods, or one that is ending', () => {
    const of = (...servers: ServerFacts[]) => clusterWith([{ attachment: 'a1' }, ...servers]);
    expect(mayReplace(of({ attachment: 'a2' }), 'a1', 'node-1')).to.equal(true);
    expect(mayReplace(of({ attachment: 'a2' }, { attachment: 'a2' }), 'a1', 'node-1')).to.equal(false);
    expect(mayReplace(of({ attachment: 'a2', isEnding: true }), 'a1', 'node-1')).to.equal(false);
    expect(mayReplace(of({ attachment: 'b2', isEnding: true }), 'a1', 'node-1')).to.equal(true);
    expect(mayReplace(of({ attachment: 'a2' }, { attachment: 'a2', isFeeder: true }), 'a1', 'node-1')).to.equal(true);
    expect(mayReplace(of({ attachment: 'a1' }), 'a1', 'node-1'), 'its own').to.equal(true);
  });
});
