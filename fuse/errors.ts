/** What the library throws: `code` is an errno name or a word of the list below, the message names the thing and the remedy. */
export class UnionFsError extends Error {
  readonly code: string;

  /** @param code errno name ("ENOENT"), or "FOREIGN_BRANCH" for a branch that belongs to another volume. */
  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = 'UnionFsError';
    this.code = code;
  }
}
