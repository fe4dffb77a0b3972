/** placeholder until rollup/verify.ts lands */
import type { Config } from '../config.ts';
export async function verifyAll(_config: Config): Promise<{ rows: number; differences: number }> {
  return { rows: 0, differences: 0 };
}
export async function verify(_o: object, _t: object): Promise<number> {
  return 0;
}
