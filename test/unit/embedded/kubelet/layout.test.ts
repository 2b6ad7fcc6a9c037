import { expect } from 'chai';
import { emptyDirPath, publishPath, stagingPath, uniqueVolumeName } from '../../../../src/embedded/kubelet/layout.ts';

describe('kubelet layout', () => {
  it('is where drivers expect it to be', () => {
    const key = { driver: 'd.example.com', volumeHandle: 'abc' };
    const hash = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
    expect(stagingPath('/k', key)).to.equal(`/k/plugins/kubernetes.io/csi/d.example.com/${hash}/globalmount`);
    expect(publishPath('/k', 'u', 'pv')).to.equal('/k/pods/u/volumes/kubernetes.io~csi/pv/mount');
    expect(emptyDirPath('/k', 'u', 'run')).to.equal('/k/pods/u/volumes/kubernetes.io~empty-dir/run');
    expect(uniqueVolumeName(key)).to.equal('kubernetes.io/csi/d.example.com^abc');
  });
});
