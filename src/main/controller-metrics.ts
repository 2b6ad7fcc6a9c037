/**
 * What the controller tells Prometheus: unions and attachments by phase, which claim a union is for, and its work. Every
 * replica tells the same of the former; only the one that leads works.
 */
import { Gauge, Histogram, type Registry } from 'prom-client';
import type { WorkMeasurement } from '../kubernetes/workqueue.ts';
import type { UnionAttachment, UnionVolume } from '../protocol/resources.ts';

/** The part of an Informer that is used here. */
interface Known<T> {
  list(): readonly T[];
}

export interface ControllerSource {
  readonly volumes: Known<UnionVolume>;
  readonly attachments: Known<UnionAttachment>;
}

export const VOLUME_PHASES = ['Pending', 'Ready', 'Deleting', 'Failed'] as const;
const ATTACHMENT_PHASES = ['Pending', 'Scheduled', 'Running', 'Detaching', 'Failed'] as const;

/** Returns what is to be called after each piece of work. */
export function registerControllerMetrics(
  registry: Registry,
  { volumes, attachments }: ControllerSource,
): (measurement: WorkMeasurement) => void {
  const registers = [registry];
  const byPhase = (
    name: string,
    help: string,
    phases: readonly string[],
    list: () => readonly { readonly status?: { readonly phase?: string } }[],
  ) =>
    new Gauge({
      ...{ name, help, labelNames: ['phase'], registers },
      collect() {
        for (const phase of phases) this.set({ phase }, 0);
        for (const { status } of list()) this.inc({ phase: status?.phase ?? 'Pending' });
      },
    });
  byPhase('union_csi_volumes', 'UnionVolumes by phase', VOLUME_PHASES, () => volumes.list());
  byPhase('union_csi_attachments', 'UnionAttachments by phase', ATTACHMENT_PHASES, () => attachments.list());
  new Gauge({
    name: 'union_csi_volume_info',
    help: 'Always 1: the claim and the phase of a volume',
    labelNames: ['volume', 'namespace', 'claim', 'phase'],
    registers,
    collect() {
      this.reset();
      for (const { metadata, spec, status } of volumes.list()) {
        const { namespace = '', name: claim = '' } = spec.claim ?? {};
        this.set({ volume: metadata.name, namespace, claim, phase: status?.phase ?? 'Pending' }, 1);
      }
    },
  });
  new Gauge({
    name: 'union_csi_volume_capacity_bytes',
    help: 'What the branches of a volume hold together',
    labelNames: ['volume'],
    registers,
    collect() {
      this.reset();
      for (const { metadata, status } of volumes.list())
        this.set({ volume: metadata.name }, Number(status?.capacityBytes ?? 0));
    },
  });
  const work = new Histogram({
    name: 'union_csi_reconcile_seconds',
    help: 'Duration of reconciles by kind and outcome',
    labelNames: ['kind', 'outcome'],
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10],
    registers,
  });
  return ({ queue, outcome, seconds }) => work.observe({ kind: queue, outcome }, seconds);
}
