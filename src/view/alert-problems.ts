/** What the rules of `alerts:` say is wrong, in the list of what is wrong right now. Pure. */
import type { Alert } from '../alert.ts';
import type { Problem, Situation } from './problem.ts';
import { capital, count } from './words.ts';

/** Active alerts of one rule that are shown one by one; more are one sentence. */
const ONE_BY_ONE = 5;

export function alertProblems({ alerts }: Pick<Situation, 'alerts'>): Problem[] {
  const byRule = new Map<string, Alert[]>();
  for (const alert of alerts) {
    const others = byRule.get(alert.rule);
    if (others) others.push(alert);
    else byRule.set(alert.rule, [alert]);
  }
  return [...byRule.values()].flatMap((active) => (active.length > ONE_BY_ONE ? [together(active)] : active.map(one)));
}

function one({ id, rule, message, sinceMs }: Alert): Problem {
  const meaning = `Your rule ${rule} says so, and has told the receivers set under alerts:.`;
  return {
    id: `alert ${id}`,
    severity: 'warning',
    stage: 'rollup',
    title: capital(message),
    meaning,
    wayOut: WAY_OUT,
    sinceMs,
  };
}

function together(active: readonly Alert[]): Problem {
  const [first] = active as [Alert];
  const title = `${count(active.length, 'alert')} of the rule ${first.rule}`;
  const sinceMs = Math.min(...active.map((alert) => alert.sinceMs));
  const meaning = `Among them: ${first.message}. /api/v1/alerts has them all.`;
  return { id: `alerts ${first.rule}`, severity: 'warning', stage: 'rollup', title, meaning, wayOut: WAY_OUT, sinceMs };
}

const WAY_OUT =
  'Look at what it names: the alert clears by itself once that is over. If it is not worth telling, change its rule.';
