// Aedes as it comes, in a process of its own: what every figure is a ratio to. Prints its port.
import { createServer } from 'node:net';
import { Aedes } from 'aedes';

const aedes = await Aedes.createBroker();
const server = createServer({ noDelay: true }, aedes.handle);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
