// Loaded before the program: the process kills itself the instant the PUBACK with the packet identifier 0xDEAD, or an HTTP
// answer with the words die-at-202 in it, has been handed to the kernel. However busy the machine is, nothing runs in between.
import { Socket } from 'node:net';

const MARKS = [Buffer.from([0x40, 2, 0xde, 0xad]), Buffer.from('die-at-202')];

function dieAfter(name, bytesOf) {
  const write = Socket.prototype[name];
  Socket.prototype[name] = function writeThenDie(...args) {
    const bytes = bytesOf(args[0]);
    const isLast = MARKS.some((mark) => bytes.includes(mark));
    const written = write.apply(this, args);
    if (isLast) process.kill(process.pid, 'SIGKILL');
    return written;
  };
}

const asBuffer = (chunk) => (typeof chunk === 'string' ? Buffer.from(chunk) : chunk);
dieAfter('_write', asBuffer);
dieAfter('_writev', (chunks) => Buffer.concat(chunks.map(({ chunk }) => asBuffer(chunk))));
