/**
 * Real servers for tests that need them. Their addresses come from the environment, which `npm run stack` prints:
 *   MILLRACE_TEST_KAFKA=127.0.0.1:9092
 *   MILLRACE_TEST_INFLUX=http://127.0.0.1:8086   MILLRACE_TEST_INFLUX_TOKEN=…   (organisation `millrace`)
 *   MILLRACE_TEST_SPARK=~/.cache/millrace/spark/4.0.0                               which `npm run spark` prints
 * Without an address the tests are skipped and the run says so in one line at its end; with
 * MILLRACE_TEST_REQUIRE=kafka,influx (as in CI) they fail instead.
 */
export interface InfluxServer {
  readonly url: string;
  readonly org: string;
  readonly token: string;
}

type Need =
  | 'kafka'
  | 'influx'
  | 'chromium'
  | 'mosquitto'
  | 'go'
  | 'promtool'
  | 'python'
  | 'spark'
  | 'schema-suite'
  | 'fish'
  | 'zsh'
  | 'script'
  | 'time'
  | 'tmpfs';
const leftOut = new Map<Need, number>();

/** Brokers of the real Kafka, or this test (or the suite whose `before` calls) is skipped. */
export function needKafka(context: Mocha.Context): string[] {
  const brokers = process.env.MILLRACE_TEST_KAFKA;
  return brokers ? brokers.split(',') : leaveOut(context, 'kafka');
}

export function needInflux(context: Mocha.Context): InfluxServer {
  const url = process.env.MILLRACE_TEST_INFLUX;
  const token = process.env.MILLRACE_TEST_INFLUX_TOKEN;
  return url && token ? { url, org: 'millrace', token } : leaveOut(context, 'influx');
}

/** The folder that compose/spark/provision.ts has made. */
export function needSpark(context: Mocha.Context): string {
  return process.env.MILLRACE_TEST_SPARK || leaveOut(context, 'spark');
}

/** Skips, or fails where the need is required. Use it for other servers and programs after looking for them. */
export function leaveOut(context: Mocha.Context, need: Need): never {
  if ((process.env.MILLRACE_TEST_REQUIRE ?? '').split(',').includes(need)) {
    throw new Error(`MILLRACE_TEST_REQUIRE names ${need}, but it is not there`);
  }
  leftOut.set(need, (leftOut.get(need) ?? 0) + 1);
  context.skip();
}

/** For tests of minutes: they run in CI, or with CI=true. */
export function needTime(context: Mocha.Context): void {
  if (!process.env.CI) leaveOut(context, 'time');
}

/** Loaded by .mocharc.json for every run. */
export const mochaHooks = {
  /** Run as a whole and without CI, the suite is to take minutes: what starts gateways and kills them is left to CI. */
  beforeEach(this: Mocha.Context) {
    const isWhole = process.argv.some((argument) => argument.includes('**'));
    if (isWhole && /[\\/]test[\\/](faults|integration)[\\/]/.test(this.currentTest?.file ?? '')) needTime(this);
  },
  afterAll() {
    if (leftOut.size === 0) return;
    const parts = [...leftOut].map(([need, count]) => `${count} for want of ${need}`);
    console.log(
      `\nLeft out: ${parts.join(', ')}. Kafka and InfluxDB come with \`npm run stack\`, PySpark with \`npm run spark\`; they print what to set. The suite of JSON Schema comes with \`npm run schema-suite\`. CI=true takes the time.`,
    );
  },
};
