import { expect } from 'chai';
import { messageOf } from '../../../src/base/errors.ts';
import { ownImage } from '../../../src/main/own-image.ts';
import type { Pod } from '../../../src/protocol/objects.ts';

const signal = new AbortController().signal;

function podOf(...containers: { name: string; image: string }[]): Pod {
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'controller-1' }, spec: { containers } };
}

function asked(pod: Pod | undefined): Promise<string> {
  return ownImage({ get: async ({ name }) => (name === 'controller-1' ? pod : undefined) }, 'controller-1', signal);
}

describe('ownImage', () => {
  it("is our container's, not a sidecar's", async () => {
    const pod = podOf({ name: 'provisioner', image: 'other' }, { name: 'union-csi', image: 'example.com/union-csi:9' });
    expect(await asked(pod)).to.equal('example.com/union-csi:9');
  });

  it('says what to do where the pod is not known', async () => {
    const refusal = (pod?: Pod) => asked(pod).then(() => 'no error', messageOf);
    const message = 'cannot tell the image for server pods: ';
    expect(await refusal()).to.equal(`${message}there is no pod "union-csi/controller-1"; give --server-image`);
    expect(await refusal(podOf())).to.contain('has no container "union-csi"; give --server-image');
  });
});
