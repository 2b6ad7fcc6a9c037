/**
 * What the store refuses, as metav1.Status says it: an HTTP code, a reason that clients switch on, and a message that
 * kubectl prints. Wording follows k8s.io/apimachinery/pkg/api/errors, because people search for it.
 */
export type StatusReason =
  | 'AlreadyExists'
  | 'BadRequest'
  | 'Conflict'
  | 'Expired'
  | 'Forbidden'
  | 'InternalError'
  | 'Invalid'
  | 'MethodNotAllowed'
  | 'NotFound'
  | 'RequestEntityTooLarge'
  | 'ServiceUnavailable'
  | 'UnsupportedMediaType';

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
}

export class StoreError extends Error {
  /** HTTP status code. */
  readonly code: number;
  readonly reason: StatusReason;
  readonly details: StatusDetails;

  constructor(code: number, reason: StatusReason, message: string, details: StatusDetails = {}) {
    super(message);
    this.name = 'StoreError';
    this.code = code;
    this.reason = reason;
    this.details = details;
  }
}

export interface Named {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

/** `pods` or `unionvolumes.union.csi.dev`, as messages name a resource. */
export function resourceName(kind: Named): string {
  return kind.group ? `${kind.plural}.${kind.group}` : kind.plural;
}

function detailsOf(kind: Named, name: string): StatusDetails {
  return { name, kind: kind.plural, ...(kind.group && { group: kind.group }) };
}

export function notFound(kind: Named, name: string): StoreError {
  return new StoreError(404, 'NotFound', `${resourceName(kind)} "${name}" not found`, detailsOf(kind, name));
}

export function alreadyExists(kind: Named, name: string): StoreError {
  return new StoreError(409, 'AlreadyExists', `${resourceName(kind)} "${name}" already exists`, detailsOf(kind, name));
}

export function conflict(kind: Named, name: string, why: string): StoreError {
  const message = `Operation cannot be fulfilled on ${resourceName(kind)} "${name}": ${why}`;
  return new StoreError(409, 'Conflict', message, detailsOf(kind, name));
}

export function forbidden(kind: Named, name: string, why: string): StoreError {
  return new StoreError(
    403,
    'Forbidden',
    `${resourceName(kind)} "${name}" is forbidden: ${why}`,
    detailsOf(kind, name),
  );
}

export function badRequest(message: string): StoreError {
  return new StoreError(400, 'BadRequest', message);
}

/** A resourceVersion that the bounded history no longer reaches. */
export function expired(message: string): StoreError {
  return new StoreError(410, 'Expired', message);
}

/** `causes` come from validation; at least one. */
export function invalid(kind: Named, name: string, causes: readonly StatusCause[]): StoreError {
  const texts = causes.map((cause) => `${cause.field}: ${cause.message}`);
  const list = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  const subject = kind.group ? `${kind.kind}.${kind.group}` : kind.kind;
  return new StoreError(422, 'Invalid', `${subject} "${name}" is invalid: ${list}`, {
    name,
    kind: kind.kind,
    ...(kind.group && { group: kind.group }),
    causes,
  });
}
