/**
 * The part of JSONPath that printer columns use: `.a.b`, `['a.b']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`. Pure.
 * Source: k8s.io/client-go/util/jsonpath.
 */
import { isObject } from './objects.ts';

const STEP =
  /\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\[\*\]|\.\*|\['([^']+)'\]|\[\?\(@\.([\w.-]+)\s*==\s*(?:"([^"]*)"|'([^']*)'|([\w.-]+))\)\]/;

/** Every value at `path`; empty when there is none. Backslash before a dot makes it part of a name. */
export function jsonPath(value: unknown, path: string): unknown[] {
  const text = path
    .replace(/^\{(.*)\}$/, '$1')
    .replace(/\.((?:[\w/-]+\\\.)+[\w/-]+)/g, (_, name: string) => `['${name.replaceAll('\\.', '.')}']`);
  let found: unknown[] = [value];
  // Not shared: a filter reads paths while a path is read.
  const steps = new RegExp(STEP, 'y');
  while (steps.lastIndex < text.length) {
    const step = steps.exec(text);
    if (!step) return [];
    const [whole, field, index, quoted, filterPath, ...literals] = step;
    const name = field ?? quoted;
    if (name !== undefined) found = found.flatMap((item) => (isObject(item) && name in item ? [item[name]] : []));
    else if (index !== undefined)
      found = found.flatMap((item) => (Array.isArray(item) ? item.slice(+index, +index + 1) : []));
    else if (filterPath !== undefined) {
      const wanted = literals.find((literal) => literal !== undefined);
      const matches = (item: unknown) => jsonPath(item, `.${filterPath}`).some((result) => String(result) === wanted);
      found = found.flatMap((item) => (Array.isArray(item) ? item.filter(matches) : []));
    } else if (whole.includes('*')) {
      found = found.flatMap((item) => (Array.isArray(item) ? item : isObject(item) ? Object.values(item) : []));
    }
  }
  return found;
}
