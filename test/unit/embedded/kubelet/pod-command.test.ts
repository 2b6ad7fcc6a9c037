import { expect } from 'chai';
import { checkVolumeMode, containerSpec } from '../../../../src/embedded/kubelet/pod-command.ts';
import type { Pod } from '../../../../src/protocol/objects.ts';

function specOf(container: object, paths: Record<string, string> = {}) {
  const pod: Pod = {
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'ns', uid: 'u' } },
    spec: { nodeName: 'n', containers: [{ name: 'main', image: 'host', ...container }] },
  };
  return containerSpec(pod, pod.spec!.containers[0]!, { paths: new Map(Object.entries(paths)), logFile: '/log' });
}

describe('containerSpec', () => {
  it('puts values, fields of the pod and earlier variables into the environment and the command', () => {
    const { command, environment } = specOf({
      command: ['echo', '$(WHO)'],
      args: ['$$(WHO)', '$(UNKNOWN)'],
      env: [
        { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
        { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
        { name: 'WHO', value: '$(POD)@$(NODE)' },
      ],
    });
    expect(environment).to.include({ POD: 'p', NODE: 'n', WHO: 'p@n' });
    expect(command).to.deep.equal(['echo', 'p@n', '$(WHO)', '$(UNKNOWN)']);
  });

  it('mounts outer paths before those within them', () => {
    const volumeMounts = [
      { name: 'b', mountPath: '/data/inner/' },
      { name: 'a', mountPath: '/data', readOnly: true },
    ];
    expect(specOf({ command: ['true'], volumeMounts }, { a: '/host/a', b: '/host/b' }).mounts).to.deep.equal([
      { source: '/host/a', target: '/data', readOnly: true },
      { source: '/host/b', target: '/data/inner', readOnly: false },
    ]);
  });

  it('gives a container nodes of its devices', () => {
    const volumeDevices = [{ name: 'a', devicePath: '/dev/data' }];
    const { devices, mounts } = specOf({ command: ['true'], volumeDevices }, { a: '/host/a' });
    expect({ devices, mounts }).to.deep.equal({ devices: [{ source: '/host/a', target: '/dev/data' }], mounts: [] });
  });

  it('holds the process to the capabilities and the user of its security context', () => {
    const securityContext = { runAsUser: 65534, capabilities: { drop: ['ALL'], add: ['CHOWN', 'SYS_ADMIN'] } };
    expect(specOf({ command: ['true'], securityContext }).command).to.deep.equal([
      ...['setpriv', '--bounding-set=-all,+chown,+sys_admin', '--reuid=65534', '--clear-groups', '--', 'true'],
    ]);
  });

  const refused: readonly [string, object, string][] = [
    ['no command', {}, 'container "main" has neither command nor args'],
    [
      'an unknown volume',
      { command: ['a'], volumeMounts: [{ name: 'x', mountPath: '/x' }] },
      'mounts "x", which the pod does not have',
    ],
    [
      'the root as mount path',
      { command: ['a'], volumeMounts: [{ name: 'v', mountPath: '/a/..' }] },
      'is not a path below /',
    ],
    ['a secret variable', { command: ['a'], env: [{ name: 'S', valueFrom: { secretKeyRef: {} } }] }, 'variable S'],
  ];
  for (const [what, container, message] of refused) {
    it(`refuses ${what}`, () => {
      expect(() => specOf(container, { v: '/host/v' })).to.throw(message);
    });
  }
});

describe('checkVolumeMode', () => {
  const container = {
    ...{ name: 'main', image: 'host' },
    volumeMounts: [{ name: 'tree', mountPath: '/tree' }],
    volumeDevices: [{ name: 'disk', devicePath: '/dev/disk' }],
  };
  const pod: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [container] } };

  it('lets filesystems be mounted, and devices be devices', () => {
    checkVolumeMode(pod, 'tree', 'Filesystem');
    checkVolumeMode(pod, 'disk', 'Block');
  });

  it('refuses it the other way round', () => {
    const message = (volume: string, mode: string) =>
      `volume ${volume} has volumeMode ${mode}, but is specified in ${mode === 'Block' ? 'volumeMounts' : 'volumeDevices'}`;
    expect(() => checkVolumeMode(pod, 'tree', 'Block')).to.throw(message('tree', 'Block'));
    expect(() => checkVolumeMode(pod, 'disk', 'Filesystem')).to.throw(message('disk', 'Filesystem'));
  });
});
