/** A place in a segment that cannot be read: reported, stepped over, never cut. */
import { basename } from 'node:path';
import { type Failure, fail } from '../errors.ts';

export interface Damage {
  readonly file: string;
  /** Byte in the file from which on it is unreadable. */
  readonly position: number;
  /** The records that are lost: [fromOffset, toOffset). Empty when only the head of the file is damaged. */
  readonly fromOffset: number;
  readonly toOffset: number;
  readonly failure: Failure;
}

export function damageAt(file: string, position: number, fromOffset: number, toOffset: number): Damage {
  const lost = toOffset - fromOffset;
  const what =
    lost > 0
      ? `${lost} records from offset ${fromOffset} to ${toOffset - 1} cannot be read and are passed over`
      : 'no record is lost';
  const message = `${basename(file)} is damaged at byte ${position}: ${what}; keep a copy of the file and check the disk`;
  return { file, position, fromOffset, toOffset, failure: fail('DATA_DAMAGED', message).failure };
}
