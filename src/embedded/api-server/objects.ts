/**
 * API objects whose kind is only known at run time, and small readers of them.
 */
import type { ObjectMeta } from '../../protocol/objects.ts';

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

/** An object as it comes from outside: nothing of it is sure. */
export interface ApiObject {
  apiVersion?: string;
  kind?: string;
  metadata?: Partial<ObjectMeta>;
  [field: string]: unknown;
}

/** An object as the store holds it: named, numbered, and never changed again. */
export interface StoredObject extends ApiObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta & { uid: string; resourceVersion: string; creationTimestamp: string };
}

/** `namespace` of cluster-wide kinds is absent. */
export interface ObjectRef {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value at a path of plain field names, or undefined where the path ends early. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const field of path) {
    if (!isObject(current)) return undefined;
    current = current[field];
  }
  return current;
}

/** Text at a path; numbers and booleans as text; undefined when there is nothing. */
export function textAt(value: unknown, ...path: readonly string[]): string | undefined {
  const found = at(value, ...path);
  if (found === undefined || found === null || typeof found === 'object') return undefined;
  return String(found);
}

export function arrayAt(value: unknown, ...path: readonly string[]): readonly unknown[] {
  const found = at(value, ...path);
  return Array.isArray(found) ? found : [];
}

/** Equality of JSON values; the order of fields does not count, an absent field equals one that is undefined. */
export function jsonEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => jsonEqual(item, b[index]));
  if (!isObject(a) || !isObject(b)) return false;
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) if (!jsonEqual(a[key], b[key])) return false;
  return true;
}

export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const item of Object.values(value)) deepFreeze(item);
  }
  return value;
}

/** RFC 3339 in whole seconds, as metav1.Time is written. */
export function timestamp(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
