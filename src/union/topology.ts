/**
 * Where a union can be used: on nodes from which every branch can be reached, the intersection of the branches' node
 * affinities, as terms of which a node must match one (CSI's accessible topology).
 */
import { ok, type Result } from '../base/result.ts';
import type { PersistentVolume } from '../protocol/objects.ts';
import { TOPOLOGY_KEY_NODE } from '../protocol/resources.ts';
import { type PlanError, refuse } from './plan-error.ts';

export type Topology = Readonly<Record<string, string>>;

/** A node matches when each key's label is among the values. */
type Term = ReadonlyMap<string, ReadonlySet<string>>;

/** More than any sensible cluster needs; without a bound, terms multiply with every branch. */
const MAX_TERMS = 256;

export interface BranchVolume {
  readonly branchId: string;
  readonly volume: PersistentVolume;
}

/** An empty list: anywhere. */
export function intersectTopology(branches: readonly BranchVolume[]): Result<readonly Topology[], PlanError> {
  let common: readonly Term[] = [new Map()];
  const seen: string[] = [];
  for (const { branchId, volume } of branches) {
    const terms = termsOf(volume);
    if (!terms.ok) return terms;
    seen.push(`${branchId} (${describe(terms.value)})`);
    common = unique(common.flatMap((left) => terms.value.flatMap((right) => meet(left, right) ?? [])));
    if (common.length === 0) {
      return refuse(
        'FAILED_PRECONDITION',
        `no node can reach all branches: ${seen.join(', ')}; make them in one place`,
      );
    }
    if (common.length > MAX_TERMS) return tooMany();
  }
  const topologies = common.flatMap(expand);
  if (topologies.length > MAX_TERMS) return tooMany();
  if (topologies.some((topology) => Object.keys(topology).length === 0)) return ok([]);
  return ok(topologies);
}

function tooMany(): Result<never, PlanError> {
  return refuse(
    'FAILED_PRECONDITION',
    `the branches' node affinities combine to more than ${MAX_TERMS} places; use fewer`,
  );
}

/** A volume's own terms; one that any node matches when it has none. */
function termsOf({ metadata, spec }: PersistentVolume): Result<readonly Term[], PlanError> {
  const terms: Term[] = [];
  for (const { matchExpressions = [], matchFields = [] } of spec?.nodeAffinity?.required?.nodeSelectorTerms ?? []) {
    const fields = matchFields.map((field) => ({ ...field, key: TOPOLOGY_KEY_NODE }));
    let term: Term | undefined = new Map();
    for (const { key, operator, values = [] } of [...matchExpressions, ...fields]) {
      if (operator !== 'In') {
        const message = `volume "${metadata.name}" has a node affinity with operator ${operator} on ${key}`;
        return refuse('FAILED_PRECONDITION', `${message}, and a topology can say only In; use another volume`);
      }
      term = term && meet(term, new Map([[key, new Set(values)]]));
    }
    // A term without expressions matches no node, says Kubernetes.
    if (term && term.size > 0) terms.push(term);
  }
  return ok(spec?.nodeAffinity?.required ? terms : [new Map()]);
}

/** Whether a node with these labels can reach the volume. */
export function isReachable(volume: PersistentVolume, labels: Topology): boolean {
  const terms = termsOf(volume);
  return terms.ok && terms.value.some((term) => [...term].every(([key, values]) => values.has(labels[key] ?? '')));
}

/** Both at once, or undefined when no node can match both. */
function meet(left: Term, right: Term): Term | undefined {
  const both = new Map(left);
  for (const [key, values] of right) {
    const others = both.get(key);
    const common = others ? values.intersection(others) : values;
    if (common.size === 0) return undefined;
    both.set(key, common);
  }
  return both;
}

/** One topology for each choice of values. */
function expand(term: Term): readonly Topology[] {
  let topologies: readonly Topology[] = [{}];
  for (const key of [...term.keys()].sort()) {
    topologies = topologies.flatMap((topology) =>
      [...term.get(key)!].sort().map((value) => ({ ...topology, [key]: value })),
    );
    if (topologies.length > MAX_TERMS) return topologies;
  }
  return topologies;
}

function unique(terms: readonly Term[]): readonly Term[] {
  return [...new Map(terms.map((term) => [describe([term]), term])).values()];
}

function describe(terms: readonly Term[]): string {
  const texts = terms.map((term) =>
    [...term.keys()]
      .sort()
      .map((key) => `${key} ${[...term.get(key)!].sort().join('|')}`)
      .join(' and '),
  );
  if (terms.length === 0) return 'nowhere';
  return texts.filter((text) => text !== '').join(' or ') || 'anywhere';
}
