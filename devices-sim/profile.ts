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

const OPENINGS = ['Hello, ', 'Hi there, ', '', '', 'Sorry to bother you again, ', 'Good morning, '];
/** What customers write, in four tempers, and up to where in [0, 1) each is drawn. */
const QUESTIONS = [
  {
    upTo: 0.5,
    says: [
      'where is my parcel?',
      'the tracking number does not work.',
      'how do I add a second sensor?',
      'can I change my payment method?',
      'please send me the invoice again.',
      'I forgot my password and the reset email never arrived.',
      'how can I cancel my plan?',
      'I would like to return an item.',
    ],
  },
  {
    upTo: 0.75,
    says: [
      'my order is late and nobody answers, this is really bad.',
      'you charged my card twice, I am very unhappy!',
      'I want my money back, the product is terrible.',
      'the app crashes all the time, so annoying.',
    ],
  },
  {
    upTo: 0.8,
    says: [
      'URGENT: the system is down and we are losing money!',
      'help, my account was hacked, block it immediately!',
      'the heating fails, this is dangerous and an emergency!',
    ],
  },
  { upTo: 1, says: ['it works again, thank you so much!', 'great help, thanks a lot!', 'perfect, thank you.'] },
];
const ANSWERS = [
  'Thank you for writing, I am looking into it.',
  'I am sorry for the trouble. May I have your order number?',
  'Done, please try again.',
  'I have passed it on to my colleague and will come back to you today.',
];
const AGENTS = ['anna', 'ben', 'chloe', 'david', 'emma'];

/** One desk: conversation after conversation, in each of which the customer begins and the agent answers now and then. */
function chatSource(seed: number, _site: string, device: string): () => Record<string, unknown> {
  const random = new Random(seed, 'chat', device);
  let number = 0;
  let messages = 0;
  let agent = random.pick(AGENTS);
  let customer = `c${random.zipf(USERS)}`;
  const question = () => {
    const drawn = random.next();
    const temper = QUESTIONS.find(({ upTo }) => drawn < upTo)!;
    const text = `${random.pick(OPENINGS)}${random.pick(temper.says)}`;
    return text.charAt(0).toUpperCase() + text.slice(1);
  };
  return () => {
    if (messages > 1 && random.chance(0.3)) {
      number++;
      messages = 0;
      agent = random.pick(AGENTS);
      customer = `c${random.zipf(USERS)}`;
    }
    const isAnswer = messages > 0 && random.chance(0.5);
    messages++;
    return {
      conversation: `${device}-${number}`,
      agent,
      customer,
      from: isAnswer ? 'agent' : 'customer',
      text: isAnswer ? random.pick(ANSWERS) : question(),
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
  chat: { defaultTopic: 'support/{team}/chat', timeField: 'timestamp', source: chatSource },
};
