/**
 * What a sensor in a building measures: temperature with a daily curve, slow drift, inertia (AR(1)) and noise; relative
 * humidity that falls when temperature rises; air pressure, the same weather for all devices of a site. Now and then a
 * sensor sticks at a value or reads one wild spike, as real ones do; both stay within what the sensor can report.
 */
import { Random } from './random.ts';

export interface Climate {
  readonly temperature: number;
  readonly humidity: number;
  readonly pressure: number;
}

const DAY_MS = 86_400_000;
const SPIKE_PROBABILITY = 1 / 1_000;
const STUCK_PROBABILITY = 1 / 3_000;
const STUCK_READINGS = 40;
/** How fast a deviation from the curve fades. */
const INERTIA_MS = 10 * 60_000;

/** Air pressure of a site in hPa: three slow waves, a function of time alone. */
export function sitePressure(seed: number, site: string): (timeMs: number) => number {
  const random = new Random(seed, 'weather', site);
  const waves = [4.3, 1.7, 0.6].map((days) => ({
    periodMs: days * DAY_MS * random.between(0.9, 1.1),
    phase: random.between(0, 2 * Math.PI),
    amplitude: random.between(1, 6),
  }));
  return (timeMs) => {
    let pressure = 1013.25;
    for (const { periodMs, phase, amplitude } of waves) {
      pressure += amplitude * Math.sin((2 * Math.PI * timeMs) / periodMs + phase);
    }
    return pressure;
  };
}

/** Call it with growing times; every call is the next measurement. */
export function climateSensor(
  seed: number,
  site: string,
  device: string,
  startMs: number,
): (timeMs: number) => Climate {
  const random = new Random(seed, 'climate', device);
  const pressureAt = sitePressure(seed, site);
  const mean = random.between(18, 24);
  const dailyAmplitude = random.between(0.5, 4);
  /** The warmest hour, early afternoon give or take. */
  const peakMs = random.between(13, 17) * 3_600_000;
  const driftPerDay = random.between(-0.05, 0.05);
  const noise = random.between(0.02, 0.15);
  const dampness = random.between(35, 60);
  const pressureOffset = random.between(-0.5, 0.5);
  let deviation = random.gaussian() * 0.5;
  let previousMs = startMs;
  let stuck = 0;
  let last: Climate = { temperature: mean, humidity: dampness, pressure: pressureAt(startMs) };

  return (timeMs) => {
    const fade = Math.exp(-Math.max(0, timeMs - previousMs) / INERTIA_MS);
    previousMs = timeMs;
    deviation = deviation * fade + random.gaussian() * 0.5 * Math.sqrt(1 - fade * fade);
    const daily = dailyAmplitude * Math.cos((2 * Math.PI * (timeMs - peakMs)) / DAY_MS);
    const drift = (driftPerDay * (timeMs - startMs)) / DAY_MS;
    const air = mean + daily + drift + deviation;
    const temperature = air + random.gaussian() * noise;
    const humidity = dampness - 2.2 * (air - mean) + random.gaussian() * 0.4;
    const pressure = pressureAt(timeMs) + pressureOffset + random.gaussian() * 0.08;
    const spike = random.chance(SPIKE_PROBABILITY) ? random.pick([-25, 30, 45]) : 0;
    const sticks = random.chance(STUCK_PROBABILITY);
    if (sticks && stuck === 0) stuck = STUCK_READINGS;
    if (stuck > 0) {
      stuck--;
      return last;
    }
    last = {
      temperature: round(temperature, 2),
      humidity: round(Math.min(100, Math.max(0, humidity)), 1),
      pressure: round(pressure, 2),
    };
    return spike === 0 ? last : { ...last, temperature: round(temperature + spike, 2) };
  };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
