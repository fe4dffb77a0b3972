/**
 * What a simulated device reports: `environment` (a climate sensor), `clicks` (user activity on a web site) or `chat`
 * (messages in a support chat). Every payload carries a time and the device's own counter, `seq`.
 */
import { Random } from './random.ts';
import { climateSensor } from './signal.ts';

export type ProfileName = 'environment' | 'clicks' | 'chat';

export interface Profile {
  readonly defaultTopic: string;
  /** Name of the payload's time field. */
  readonly timeField: string;
  /** One device's reports; called with growing times. The time and the counter are added by the caller. */
  source(seed: number, site: string, device: string, startMs: number): (timeMs: number) => Record<string, unknown>;
}

const PAGES = [
  '/',
  '/products',
  '/pricing',
  '/cart',
  '/checkout',
  '/blog',
  '/support',
  '/account',
  '/search',
  '/about',
];
const ACTIONS = ['view', 'view', 'view', 'view', 'click', 'click', 'scroll', 'purchase'];
const USERS = 500;

function clickSource(seed: number, _site: string, device: string): () => Record<string, unknown> {
  const random = new Random(seed, 'clicks', device);
  return () => ({
    userid: `u${random.zipf(USERS)}`,
    page: PAGES[random.zipf(PAGES.length)],
    action: random.pick(ACTIONS),
  });
}

const OPENINGS = ['Hello, ', 'Hi there, ', '', 'Sorry to bother you again, ', 'Good morning, '];
const TOPICS = ['my parcel', 'the invoice', 'the app', 'my password', 'the new sensor', 'your web site', 'the refund'];
const MOODS = [
  { mood: 'angry', says: ['is still broken and nobody answers!', 'is a disaster, I want my money back!'] },
  { mood: 'worried', says: ['has not arrived yet, what should I do?', 'does not work since this morning.'] },
  { mood: 'neutral', says: ['has a setting that I cannot find.', 'needs another address.'] },
  { mood: 'happy', says: ['works again, thank you so much!', 'is great, thanks for the quick help!'] },
];

function chatSource(seed: number, _site: string, device: string): () => Record<string, unknown> {
  const random = new Random(seed, 'chat', device);
  let conversation = 0;
  return () => {
    if (random.chance(0.15)) conversation++;
    const { says } = random.pick(MOODS);
    const text = `${random.pick(OPENINGS)}${random.pick(TOPICS)} ${random.pick(says)}`;
    return {
      conversation: `${device}-${conversation}`,
      author: random.chance(0.6) ? 'customer' : `agent${random.integer(5)}`,
      text: text.charAt(0).toUpperCase() + text.slice(1),
      length: text.length,
    };
  };
}

export const PROFILES: Readonly<Record<ProfileName, Profile>> = {
  environment: {
    defaultTopic: 'sensors/{site}/{device}/environment',
    timeField: 'ts',
    source: (seed, site, device, startMs) => {
      const sensor = climateSensor(seed, site, device, startMs);
      return (timeMs) => ({ ...sensor(timeMs) });
    },
  },
  clicks: { defaultTopic: 'web/{app}/clicks', timeField: 'timestamp', source: clickSource },
  chat: { defaultTopic: 'support/{site}/{device}/chat', timeField: 'ts', source: chatSource },
};
