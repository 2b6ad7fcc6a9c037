import { expect } from 'chai';
import { type ExplainFacts, explainClaim, formatExplanation } from '../../../src/main/kubectl/explanation.ts';
import type { CoreEvent, Pod } from '../../../src/protocol/objects.ts';
import type { UnionAttachment, UnionVolume } from '../../../src/protocol/resources.ts';
import { claim, podUsing, storageClass } from '../../support/union-objects.ts';

const now = '2026-01-01T00:00:00Z';
const condition = (reason: string, message: string) => ({
  ...({
    type: 'Ready',
    status: reason === 'Ready' ? 'True' : 'False',
    reason,
    message,
    lastTransitionTime: now,
  } as const),
});

function union(phase: 'Ready' | 'Failed', reason: string, message: string): UnionVolume {
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'UnionVolume',
    metadata: { name: 'uv-1' },
    spec: {
      ...{ volumeName: 'pvc-1', capacityBytes: '1', accessModes: ['ReadWriteOnce'], mountOptions: [] },
      ...{ policies: { create: 'ff', action: 'ff', search: 'ff' }, expandStrategy: 'grow' },
      branches: [
        { id: 'b0', mode: 'RW', origin: 'created', claim: { namespace: 'shop', name: 'lower' }, desired: 'active' },
      ],
    },
    status: {
      phase,
      conditions: [condition(reason, message)],
      branches: [{ id: 'b0', phase: phase === 'Ready' ? 'Bound' : 'Lost', ...(phase === 'Failed' && { message }) }],
    },
  };
}

function attachment(node: string, phase: 'Running' | 'Failed', reason: string, message: string): UnionAttachment {
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'UnionAttachment',
    metadata: { name: `ua-${node}`, uid: `uid-${node}` },
    spec: { volume: 'uv-1', node, readOnly: false },
    status: { phase, conditions: [condition(reason, message)] },
  };
}

const unionClass = storageClass('union', { provisioner: 'union.csi.dev', volumeBindingMode: 'WaitForFirstConsumer' });
const base: ExplainFacts = {
  claim: claim('files', { storageClassName: 'union', volumeName: 'pvc-1' }),
  storageClass: unionClass,
  union: { volume: union('Ready', 'Ready', '1 branch is bound'), attachments: [] },
  lowerClaims: [claim('lower', { volumeName: 'pv-lower' })],
  servers: [],
  users: [],
  warnings: [],
};

const linesOf = (facts: ExplainFacts) => formatExplanation('shop/files', explainClaim(facts)).join('\n');

describe('explainClaim', () => {
  it('finds nothing wrong with what is as it should be', () => {
    expect(explainClaim(base)).to.deep.include({ isHealthy: true, advice: [] });
    expect(linesOf(base)).to.match(/^shop\/files: nothing is wrong\n/);
  });

  it('tells a branch that was lost, and that it is not made anew', () => {
    const volume = union('Failed', 'Lost', 'claim "shop/lower" is gone');
    const text = linesOf({ ...base, union: { volume, attachments: [] }, lowerClaims: [] });
    expect(text).to.match(/✗ {3}branch b0 +Lost; pvc shop\/lower, which is not there; claim "shop\/lower" is gone/);
    expect(text).to.include('never made anew, empty');
  });

  it('tells of a node that has it while another wants it', () => {
    const attachments = [
      attachment('node-1', 'Running', 'Ready', 'runs'),
      attachment('node-2', 'Failed', 'AttachedElsewhere', 'union "uv-1" is attached to node "node-1"'),
    ];
    const text = linesOf({ ...base, union: { volume: base.union!.volume, attachments } });
    expect(text).to.match(/✓ node node-1 +Running\n✗ node node-2 +Failed; union "uv-1" is attached to node "node-1"/);
    expect(text).to.include('node.kubernetes.io/out-of-service');
  });

  it('says the last warning about a pod that does not start', () => {
    const waiting: Pod = { ...podUsing('files', { phase: 'Pending' }), spec: { containers: [], nodeName: 'node-1' } };
    const pod: Pod = { ...waiting, metadata: { ...waiting.metadata, uid: 'uid-app' } };
    const event = (message: string, lastTimestamp: string) =>
      ({
        type: 'Warning',
        reason: 'FailedMount',
        message,
        lastTimestamp,
        involvedObject: { uid: 'uid-app' },
      }) as CoreEvent;
    const warnings = [event('newest\n words', '2026-01-01T00:00:02Z'), event('older', '2026-01-01T00:00:01Z')];
    expect(linesOf({ ...base, users: [pod], warnings })).to.match(
      /✗ pod shop\/app +Pending; on node-1; FailedMount: newest words/,
    );
  });

  it('tells branches that are full, and what makes room', () => {
    const branch = { id: 'b0', mode: 'RW', health: 'full', minFreeSpaceBytes: 0, files: 0 };
    const branches = [{ ...branch, totalBytes: 1, usedBytes: 1, availableBytes: 0 }];
    const usage = { branches, requests: 0, openHandles: 0, inodes: 0 };
    const { isHealthy, advice } = explainClaim({ ...base, union: { ...base.union!, usage } });
    expect(isHealthy).to.equal(false);
    expect(advice[0]).to.match(/^kubectl union add-branch files adds room/);
  });

  it('says when a class is none of ours, or gone', () => {
    const pending = claim('files', { storageClassName: 'other' });
    const none = { ...base, claim: pending, union: undefined };
    expect(linesOf({ ...none, storageClass: undefined })).to.include('of class "other", which does not exist');
    expect(linesOf({ ...none, storageClass: storageClass('other') })).to.include('this claim is none of ours');
  });
});
