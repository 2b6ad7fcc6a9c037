/**
 * Label and field selectors (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ and
 * …/field-selectors/). Parsing throws a 400; matching is pure.
 */
import { type ApiObject, textAt } from './objects.ts';
import { badRequest } from './store-error.ts';

export type Predicate = (object: ApiObject) => boolean;

/** `a=b,c!=d,e in (f,g),h notin (i),j,!k`; nothing matches everything. */
export function parseLabelSelector(text: string): Predicate {
  const requirements = splitOutsideParentheses(text).map(parseLabelRequirement);
  return (object) => requirements.every((matches) => matches(object.metadata?.labels ?? {}));
}

type Labels = { readonly [key: string]: string };

function splitOutsideParentheses(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function parseLabelRequirement(text: string): (labels: Labels) => boolean {
  const set = /^([^\s!=(),]+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text);
  if (set) {
    const [, key = '', operator, list = ''] = set;
    const values = list.split(',').map((value) => value.trim());
    const wanted = operator === 'in';
    return (labels) => (key in labels ? values.includes(labels[key]!) === wanted : !wanted);
  }
  const equality = /^([^\s!=(),]+)\s*(=|==|!=)\s*([^\s!=(),]*)$/.exec(text);
  if (equality) {
    const [, key = '', operator, value] = equality;
    return operator === '!=' ? (labels) => labels[key] !== value : (labels) => labels[key] === value;
  }
  const existence = /^(!?)\s*([^\s!=(),]+)$/.exec(text);
  if (existence) {
    const [, not, key = ''] = existence;
    return not ? (labels) => !(key in labels) : (labels) => key in labels;
  }
  throw badRequest(`unable to parse requirement: ${JSON.stringify(text)} is not a label selector`);
}

/** Fields of built-in kinds that the real server can select by, besides metadata.name and metadata.namespace. */
const SELECTABLE_FIELDS: { readonly [kindKey: string]: readonly string[] } = {
  pods: [
    'spec.nodeName',
    'spec.restartPolicy',
    'spec.schedulerName',
    'spec.serviceAccountName',
    'status.phase',
    'status.podIP',
    'status.nominatedNodeName',
  ],
  events: [
    'involvedObject.kind',
    'involvedObject.namespace',
    'involvedObject.name',
    'involvedObject.uid',
    'involvedObject.apiVersion',
    'involvedObject.resourceVersion',
    'involvedObject.fieldPath',
    'reason',
    'reportingComponent',
    'source',
    'type',
  ],
  namespaces: ['status.phase'],
  nodes: ['spec.unschedulable'],
  secrets: ['type'],
};

/** `a.b=c,d.e!=f`; `custom` are the fields that a custom resource says can be asked by. An absent field is the empty text. */
export function parseFieldSelector(text: string, kindKey: string, custom: readonly string[] = []): Predicate {
  const known = ['metadata.name', 'metadata.namespace', ...(SELECTABLE_FIELDS[kindKey] ?? []), ...custom];
  const terms = text
    .split(/(?<!\\),/)
    .filter((part) => part !== '')
    .map((part) => {
      const match = /^([^!=]+)(=|==|!=)(.*)$/.exec(part);
      if (!match) throw badRequest(`invalid field selector ${JSON.stringify(part)}; write field=value`);
      const [, field = '', operator, value = ''] = match;
      if (!known.includes(field)) throw badRequest(`field label not supported: ${field}`);
      const path = kindKey === 'events' && field === 'source' ? ['source', 'component'] : field.split('.');
      const absent = field === 'spec.unschedulable' ? 'false' : '';
      return { path, absent, value: unescapeValue(value), equal: operator !== '!=' };
    });
  return (object) =>
    terms.every(({ path, absent, value, equal }) => ((textAt(object, ...path) ?? absent) === value) === equal);
}

/** Backslash protects the comma, the equals sign and itself. */
function unescapeValue(value: string): string {
  return value.replace(/\\([\\,=])/g, '$1');
}
