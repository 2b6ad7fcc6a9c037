import { expect } from 'chai';
import { chooseNode, type SchedulingFacts } from '../../../../src/embedded/sidecars/scheduling.ts';
import type { Node, PersistentVolume, Pod } from '../../../../src/protocol/objects.ts';

function node(
  name: string,
  more: { ready?: boolean; labels?: Record<string, string>; unschedulable?: boolean } = {},
): Node {
  return {
    ...{ apiVersion: 'v1', kind: 'Node', metadata: { name, labels: more.labels ?? {} } },
    spec: { unschedulable: more.unschedulable ?? false },
    status: { conditions: [{ type: 'Ready', status: more.ready === false ? 'False' : 'True' }] },
  } as Node;
}

function pod(spec: object = {}): Pod {
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [], ...spec } };
}

function onlyOn(name: string) {
  const matchFields = [{ key: 'metadata.name', operator: 'In', values: [name] }];
  return {
    affinity: {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchFields }] } },
    },
  };
}

function volumeOn(hostname: string): PersistentVolume {
  const matchExpressions = [{ key: 'kubernetes.io/hostname', operator: 'In', values: [hostname] }];
  return {
    ...{ apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name: 'v' } },
    spec: { nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions }] } } },
  };
}

const facts = (more: Partial<SchedulingFacts>): SchedulingFacts => ({
  ...{ nodes: [], volumes: [], selectedNodes: [], podsOnNode: new Map(), refused: [], ...more },
});

describe('chooseNode', () => {
  it('takes the node with the fewest pods, the first by name among equals', () => {
    const nodes = [node('c'), node('b'), node('a')];
    expect(chooseNode(pod(), facts({ nodes }))).to.deep.equal({ kind: 'node', name: 'a' });
    const podsOnNode = new Map([
      ['a', 2],
      ['b', 1],
      ['c', 1],
    ]);
    expect(chooseNode(pod(), facts({ nodes, podsOnNode }))).to.deep.equal({ kind: 'node', name: 'b' });
  });

  it('honours affinity to a node by its name', () => {
    const choice = chooseNode(pod(onlyOn('b')), facts({ nodes: [node('a'), node('b')] }));
    expect(choice).to.deep.equal({ kind: 'node', name: 'b' });
  });

  it('follows bound volumes to where they are', () => {
    const nodes = ['a', 'b'].map((name) => node(name, { labels: { 'kubernetes.io/hostname': name } }));
    const choice = chooseNode(pod(), facts({ nodes, volumes: [volumeOn('b')] }));
    expect(choice).to.deep.equal({ kind: 'node', name: 'b' });
  });

  it('stays with the node that a claim was promised', () => {
    const choice = chooseNode(pod(), facts({ nodes: [node('a'), node('b')], selectedNodes: ['b'] }));
    expect(choice).to.deep.equal({ kind: 'node', name: 'b' });
  });

  it('prefers nodes that have not refused the volumes, then the one refused longest ago', () => {
    const nodes = [node('a'), node('b'), node('c')];
    expect(chooseNode(pod(), facts({ nodes, refused: ['a', 'b'] }))).to.deep.equal({ kind: 'node', name: 'c' });
    expect(chooseNode(pod(), facts({ nodes, refused: ['b', 'c', 'a'] }))).to.deep.equal({ kind: 'node', name: 'b' });
  });

  it('says of every node why it does not fit', () => {
    const nodes = [node('a', { ready: false }), node('b', { unschedulable: true }), node('c'), node('d')];
    expect(chooseNode(pod(onlyOn('x')), facts({ nodes }))).to.deep.equal({
      kind: 'none',
      message:
        "0/4 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector.",
    });
    const none = { kind: 'none', message: '0/0 nodes are available: no nodes are registered.' };
    expect(chooseNode(pod(), facts({}))).to.deep.equal(none);
  });
});
