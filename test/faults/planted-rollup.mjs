// Planted bugs of the rollup, loaded before the program; MILLRACE_PLANTED names one. The tests of exact rows must notice each.
import '../support/step-clock.mjs';
import { Engine } from '../../dist/src/rollup/engine.js';

const { take, process: count } = Engine.prototype;

const PLANTED = {
  // The position that was read is committed, not that of the oldest open window.
  'read-position'() {
    Engine.prototype.take = function takeReadPosition() {
      const taken = take.call(this);
      return taken.checkpoint ? { ...taken, checkpoint: { ...taken.checkpoint, offset: this.position } } : taken;
    };
  },
  // The devices' clocks move the watermark.
  'device-time'() {
    Engine.prototype.process = function processByDeviceTime(record) {
      const time = record.kind === 'reading' && /^\{"stream":"[^"]*","time":(\d+)/.exec(record.value.toString());
      return count.call(this, time ? { ...record, receivedMs: Number(time[1]) } : record);
    };
  },
};

PLANTED[process.env.MILLRACE_PLANTED]();
