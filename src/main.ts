#!/usr/bin/env node
/**
 * The command line. Each command is a file in `cli/`; this one names them, their options and an example of each.
 * Exit codes: 0 = done, or the thing asked is true; 1 = the thing asked is false (a mismatch, a refusal, an imbalance);
 * 2 = usage or configuration; 3 = `torture` was inconclusive; 130 = a second Ctrl-C ended it before it was done. Errors go
 * to stderr, answers to stdout.
 */
import { readFileSync } from 'node:fs';
import { Argument, Command, CommanderError, Option } from 'commander';
import type { Terminal } from './cli/terminal.ts';

// fsync, gzip and DNS share libuv's threads; four are too few once the spool commits every few milliseconds.
process.env.UV_THREADPOOL_SIZE ??= '8';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', packageBase()), 'utf8'));

/** dist/src/main.js and src/main.ts lie at different depths below package.json. */
function packageBase(): string {
  return import.meta.url.endsWith('.ts') ? new URL('x/', import.meta.url).href : import.meta.url;
}

const terminal: Terminal = {
  out: (text) => process.stdout.write(`${text}\n`),
  err: (text) => process.stderr.write(`${text}\n`),
  colour: !!process.stdout.isTTY && !process.env.NO_COLOR,
  interactive: !!process.stderr.isTTY,
  env: process.env,
  version,
};

const program = new Command('millrace')
  .description('An IoT telemetry gateway: MQTT in, Kafka through, exact aggregates out.')
  .version(version)
  .showSuggestionAfterError(true)
  .showHelpAfterError('(millrace --help lists the commands)')
  .configureHelp({ showGlobalOptions: true })
  .exitOverride();

const config = () =>
  new Option('-c, --config <file>', 'the configuration').env('MILLRACE_CONFIG').default('millrace.yaml');
const json = () => new Option('--json', 'answer with JSON, for programs');

function example(command: Command, ...lines: string[]): Command {
  return command.addHelpText('after', `\nExample:\n${lines.map((line) => `  $ ${line}`).join('\n')}`);
}

example(
  program
    .command('run')
    .description('run the gateway, the rollup, or both, until SIGINT or SIGTERM')
    .addOption(config())
    .addOption(new Option('--role <role>', 'which stages').choices(['all', 'gateway', 'rollup']).default('all'))
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .action(async (options) => finish((await import('./cli/run.ts')).run(options, terminal))),
  'millrace run --config millrace.yaml',
  'millrace run --role rollup --config millrace.yaml',
);

example(
  program
    .command('demo')
    .description('everything in one process, with simulated devices and nothing installed')
    .option('--for <duration>', 'stop by itself after this long, e.g. 60s')
    .option('--devices <count>', 'simulated devices', '20')
    .option('--rate <rate>', 'readings per device', '1/s')
    .option('--sample <name>', 'instead of a plant: sensors, clickstream or chat')
    .option('--data <folder>', 'data folder; default: ./demo-data, and a folder in it for each sample')
    .option('--port <port>', 'MQTT port', '1883')
    .option('--http-port <port>', "the page's port", '8080')
    .addOption(
      new Option('--token <text>', 'with it the page sends dead letters again; without, it only reads').env(
        'HTTP_TOKEN',
      ),
    )
    .option('--faults', 'devices misbehave now and then: duplicates, gaps, late and malformed readings')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/demo.ts')).demo(options, terminal))),
  'millrace demo',
  'millrace demo --for 60s --json',
);

example(
  program
    .command('check')
    .description(
      'find every mistake in a configuration; say what would become of a message, or of history under another schema',
    )
    .addOption(config())
    .option('-t, --topic <topic>', 'MQTT topic of a message')
    .option('-p, --payload <file>', 'its payload; - for standard input')
    .option('--schema <file>', 'try another schema on what a stream has received')
    .option('--last <duration>', 'with --schema: what was received in the last 24h (default), 7d, ...')
    .option('--stream <name>', 'with --schema: the stream, where several could be meant')
    .option('--data <folder>', 'with --schema: data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/check.ts')).check({ ...options, ...checkIo() }))),
  'millrace check --config millrace.yaml',
  'millrace check --topic sensors/a/d1/environment --payload reading.json',
  'millrace check --schema new.schema.json --last 24h',
);

example(
  program
    .command('verify')
    .description('recompute the rows from the log and compare them with the store, bit by bit')
    .addOption(config())
    .option('--from <time>', 'RFC 3339 or epoch milliseconds; default: the beginning of the log')
    .option('--to <time>', 'default: now')
    .option('--stream <name>', 'only this stream')
    .option(
      '--against <file>',
      'instead of the store: a file or folder of rows that another program made, NDJSON or CSV',
    )
    .option('--tolerance <shares>', 'with --against: how far values may be off, such as sum=1e-12; default: not at all')
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/verify.ts')).verify(options, terminal))),
  'millrace verify --from 2026-01-01T00:00:00Z --to 2026-01-02T00:00:00Z',
  'millrace verify --against rows/ --tolerance sum=1e-12,mean=1e-12',
);

example(
  program
    .command('audit')
    .description(
      'check that what came in is in the log and in the store, by device and minute; or where one reading is',
    )
    .addOption(config())
    .option('--from <time>', 'RFC 3339 or epoch milliseconds of receipt; default: the beginning of the log')
    .option('--to <time>', 'default: now')
    .option('--device <name>', 'only this device: what its readings are keyed by')
    .option('--reading <time>', 'the event time of a reading of the device: draw its way')
    .option('--url <address>', 'ask the gateway that runs there; default of --from is then an hour ago')
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/audit.ts')).audit(options, terminal))),
  'millrace audit --from 2026-01-01T00:00:00Z --to 2026-01-02T00:00:00Z',
  'millrace audit --device d1 --reading 2026-01-01T12:00:00.250Z',
  'millrace audit --url http://plant-7:8080',
);

example(
  program
    .command('recompute')
    .description('write the rows of a range again from the log, late readings included; those that differ get rev + 1')
    .addOption(config())
    .requiredOption('--from <time>', 'RFC 3339 or epoch milliseconds')
    .requiredOption('--to <time>', 'not included')
    .option('--stream <name>', 'only this stream')
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/recompute.ts')).recompute(options, terminal))),
  'millrace recompute --from 2026-01-01T00:00:00Z --to 2026-01-02T00:00:00Z',
);

const deadletters = program
  .command('deadletters')
  .description('payloads that were refused, kept whole with the reason');
example(
  deadletters
    .command('list')
    .description('one line each, newest first')
    .addOption(config())
    .option('--stream <name>', 'only this stream')
    .option('--since <duration>', 'only those received in the last 2h, 3d, ...')
    .option('--limit <count>', 'at most this many', '50')
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/deadletters.ts')).list(options, terminal))),
  'millrace deadletters list --since 1h',
);
example(
  deadletters
    .command('show <id>')
    .description('one of them, with its payload')
    .addOption(config())
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (id, options) => finish((await import('./cli/deadletters.ts')).show(id, options, terminal))),
  'millrace deadletters show 0-1234',
);

example(
  deadletters
    .command('requeue')
    .description('send them through inspection and the log again, each once, whether a gateway runs or not')
    .addOption(config())
    .option('--id <id>', 'only this one')
    .option('--stream <name>', 'only this stream')
    .option('--since <duration>', 'only those received in the last 2h, 3d, ...')
    .option('--schema <file>', 'say first how many would pass with this schema for the stream')
    .option('--dry-run', 'only say how many would pass')
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/requeue.ts')).requeue(options, terminal))),
  'millrace deadletters requeue --stream environment --since 2d --schema new.schema.json --dry-run',
  'millrace deadletters requeue --stream environment --since 2d',
);

const commands = program.command('commands').description('commands to devices, and what became of them');
example(
  commands
    .command('send')
    .description('queue a command for a device: delivered at least once, or expired')
    .addOption(config())
    .requiredOption('--device <name>', 'which device')
    .requiredOption('--payload <json>', 'JSON, or text that is sent as it is')
    .option('--id <id>', 'name it, so that sending it twice is one command')
    .option('--ttl <duration>', 'how long it may wait; default: commands.ttl')
    .option('--response-topic <topic>', 'where the device answers; {device} and {id} are filled in')
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/commands.ts')).send(options, terminal))),
  `millrace commands send --device d1 --payload '{"fan":"on"}' --ttl 10m`,
);
example(
  commands
    .command('list')
    .description('one line each, newest first: queued, delivered, answered, expired or refused')
    .addOption(config())
    .option('--device <name>', 'only of this device')
    .option('--limit <count>', 'at most this many', '50')
    .option('--data <folder>', 'data folder, instead of the one in the configuration')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/commands.ts')).list(options, terminal))),
  'millrace commands list --device d1 --json',
);

example(
  program
    .command('intents')
    .description('say what a labelled file of intents is worth, or what is understood of a text')
    .requiredOption('--train <file>', 'an intent, a tab, a message, one a line')
    .option('--text <text>', 'say intent and sentiment of this, instead')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/intents.ts')).intents(options, terminal))),
  'millrace intents --train compose/samples/chat/intents.tsv',
  'millrace intents --train compose/samples/chat/intents.tsv --text "Where is my parcel?"',
);

example(
  program
    .command('torture')
    .description('kill, stop, cut and fill everything while simulated devices publish, then check every claim')
    .option(
      '-c, --config <file>',
      'whose Kafka and InfluxDB to use, with topics and buckets of its own; default: neither',
    )
    .option('--minutes <count>', 'how long faults go on; default: 1, of a soak 30')
    .option('--soak', 'kill nothing: steady load and mild faults, and what the processes hold must not grow')
    .option('--seed <number>', 'same seed, same order of faults; default: any')
    .option('--mutant <name>', 'plant this bug first; it must be caught. An unknown name lists them')
    .option('--keep', 'keep ledgers, data and outputs also when nothing was wrong')
    .addOption(json())
    .action(async (options) => {
      await finish((await import('./cli/torture.ts')).torture(options, terminal));
      await leave();
    }),
  'millrace torture --minutes 10',
  'millrace torture --mutant early-ack --json',
  'millrace torture --soak --minutes 30',
);

example(
  program
    .command('passwd')
    .description('hash a password read from standard input, for the users file')
    .action(async () => finish((await import('./cli/passwd.ts')).passwd(process.stdin, terminal))),
  'printf \'%s\' "$PASSWORD" | millrace passwd',
);

example(
  program
    .command('init')
    .description('write a commented first configuration, with schema, device registry and simulated devices')
    .argument('[dir]', 'folder, made if it is not there', '.')
    .action(async (dir) => finish((await import('./cli/init.ts')).init(dir, terminal))),
  'millrace init my-plant',
);

example(
  program
    .command('simulate')
    .description('simulated devices that publish to the gateway of a configuration')
    .addOption(config())
    .option('-p, --profile <file>', 'what the devices do, as `init` writes it')
    .option('--url <url>', 'the broker, instead of the first listener without TLS in the configuration')
    .option('--for <duration>', 'stop by itself after this long, e.g. 60s')
    .option('--devices <count>', 'instead of what the profile says')
    .option('--rate <rate>', 'readings per device, such as 1/s')
    .addOption(json())
    .action(async (options) => finish((await import('./cli/simulate.ts')).simulate(options, terminal))),
  'millrace simulate --profile simulator.yaml',
  'millrace simulate --devices 100 --rate 2/s --for 60s --json',
);

example(
  program
    .command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(['bash', 'zsh', 'fish']))
    .action(async (shell) => finish((await import('./cli/completion.ts')).completion(shell, program, terminal))),
  'source <(millrace completion bash)',
  'millrace completion fish > ~/.config/fish/completions/millrace.fish',
);

function checkIo() {
  return { out: terminal.out, colour: terminal.colour, interactive: terminal.interactive, env: terminal.env };
}

async function finish(code: Promise<number>): Promise<void> {
  process.exitCode = await code;
}

/**
 * At once, when all is said: Node's own tidying up of what dozens of ended children leave open has been seen to spin for
 * minutes at the end of a long torture.
 */
async function leave(): Promise<void> {
  await Promise.all(
    [process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))),
  );
  process.exit();
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
