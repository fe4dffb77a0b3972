// A planted bug, loaded before the program: readings are acknowledged 50 ms before they are written. The kill test must
// catch it.
import { Spool } from '../../dist/src/journal/spool.js';

const EARLY_MS = 50;
const append = Spool.prototype.append;
Spool.prototype.append = function appendTooLate(record, onDurable) {
  // Before the event loop does anything else: on a busy machine the timer could be quicker than a setImmediate.
  process.nextTick(onDurable, { ok: true, value: undefined });
  setTimeout(() => append.call(this, record, () => {}), EARLY_MS);
};
