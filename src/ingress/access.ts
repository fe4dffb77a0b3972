/**
 * Who may publish and subscribe where. A rule is a topic filter in which a level may be a name in braces:
 *   sensors/{site}/{username}/#
 * `{username}` and `{clientid}` stand for the user's and the client's own name and nothing else; any other name in braces
 * is any one level, as + is; # may be the last level. A name that is not a plain topic level (with / + # or empty) is
 * matched by no rule that is bound to it. Rules say only what is allowed; topics that start with $ are the broker's: no
 * rule lets anyone publish there, and only a rule that spells the name out lets anyone subscribe. Pure.
 */
import { coversFilter, matchesTopic } from './topic.ts';

/** Rules as the users file has them, checked. */
export interface AccessRules {
  readonly publish: readonly AccessRule[];
  readonly subscribe: readonly AccessRule[];
}

export type AccessRule = readonly RuleLevel[];
type RuleLevel = string | { readonly bound: 'username' | 'clientid' };

/** The rules of one connection. */
export interface Access {
  mayPublish(topic: string): boolean;
  /** Every topic that the filter matches is allowed. */
  maySubscribe(filter: string): boolean;
}

export const EVERYTHING: AccessRules = { publish: [['#']], subscribe: [['#']] };
export const NOTHING: AccessRules = { publish: [], subscribe: [] };

/** A rule, or a sentence that says what is wrong with the text. */
export function parseRule(text: string): AccessRule | string {
  if (text === '') return 'an access rule must not be empty';
  const levels: RuleLevel[] = [];
  const parts = text.split('/');
  for (const [i, part] of parts.entries()) {
    const name = /^\{([A-Za-z_][A-Za-z0-9_]*)\}$/.exec(part)?.[1];
    if (name === 'username' || name === 'clientid') levels.push({ bound: name });
    else if (name !== undefined || part === '+') levels.push('+');
    else if (part === '#' && i === parts.length - 1) levels.push('#');
    else if (/[{}+#\0]/.test(part)) {
      return `the level "${part}" is neither plain text nor one name such as {username}; + and # stand alone, # last`;
    } else levels.push(part);
  }
  return levels;
}

export function bindAccess(rules: AccessRules, user: string | null, clientId: string): Access {
  const publish = bindAll(rules.publish, user, clientId);
  const subscribe = bindAll(rules.subscribe, user, clientId);
  return {
    mayPublish: (topic) => {
      // for every publish: `some` would make a closure each time
      for (const rule of publish) if (matchesTopic(rule, topic)) return true;
      return false;
    },
    maySubscribe: (filter) => {
      const levels = filter.split('/');
      return subscribe.some((rule) => coversFilter(rule, levels));
    },
  };
}

function bindAll(rules: readonly AccessRule[], user: string | null, clientId: string): string[][] {
  const bound: string[][] = [];
  for (const rule of rules) {
    const levels: string[] = [];
    for (const level of rule) {
      if (typeof level === 'string') {
        levels.push(level);
        continue;
      }
      const name = level.bound === 'username' ? user : clientId;
      if (name === null || name === '' || /[/+#\0]/.test(name)) break;
      levels.push(name);
    }
    if (levels.length === rule.length) bound.push(levels);
  }
  return bound;
}
