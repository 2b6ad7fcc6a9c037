/** Node selectors, as pods and PersistentVolumes use them (k8s.io/component-helpers/scheduling/corev1/nodeaffinity). Pure. */
import type { V1NodeSelector, V1NodeSelectorRequirement, V1NodeSelectorTerm } from '@kubernetes/client-node';
import type { Node } from '../../protocol/objects.ts';

/** Terms are alternatives; one without requirements matches nothing. */
export function matchesSelector(node: Node, selector: V1NodeSelector): boolean {
  return selector.nodeSelectorTerms.some((term) => matchesTerm(node, term));
}

function matchesTerm(node: Node, { matchExpressions = [], matchFields = [] }: V1NodeSelectorTerm): boolean {
  if (matchExpressions.length + matchFields.length === 0) return false;
  return (
    matchExpressions.every((requirement) => matches(node.metadata.labels?.[requirement.key], requirement)) &&
    matchFields.every((requirement) =>
      matches(requirement.key === 'metadata.name' ? node.metadata.name : undefined, requirement),
    )
  );
}

function matches(value: string | undefined, { operator, values = [] }: V1NodeSelectorRequirement): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return value !== undefined && Number(value) > Number(values[0]);
    case 'Lt':
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}
