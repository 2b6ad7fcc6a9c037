/** Why a request cannot be planned: the code CSI answers with, and the message for the person who asked. */
import type { ErrorCode } from '../base/errors.ts';
import { err, type Result } from '../base/result.ts';

export interface PlanError {
  readonly code: ErrorCode;
  readonly message: string;
}

export function refuse(code: ErrorCode, message: string): Result<never, PlanError> {
  return err({ code, message });
}
