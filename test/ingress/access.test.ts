import assert from 'node:assert/strict';
import { type Access, type AccessRule, bindAccess, parseRule } from '../../src/ingress/access.ts';
import { parseUsers, readUsers } from '../../src/ingress/users.ts';

function access(
  publish: readonly string[],
  subscribe: readonly string[],
  user: string | null,
  clientId = 'c1',
): Access {
  const rules = (texts: readonly string[]): AccessRule[] => texts.map((text) => parseRule(text) as AccessRule);
  return bindAccess({ publish: rules(publish), subscribe: rules(subscribe) }, user, clientId);
}

describe('access rules', () => {
  it('bind a capture to the user, and to the client', () => {
    const { mayPublish } = access(['sensors/{site}/{username}/#', 'raw/{clientid}'], [], 'pump-17');
    assert.ok(mayPublish('sensors/berlin/pump-17/temperature'));
    assert.ok(mayPublish('sensors/berlin/pump-17'));
    assert.ok(mayPublish('raw/c1'));
    for (const other of ['sensors/berlin/pump-18/temperature', 'sensors/pump-17', 'raw/c2', 'raw/c1/x', 'other']) {
      assert.equal(mayPublish(other), false, other);
    }
  });

  it('keep publishing and subscribing apart', () => {
    const { mayPublish, maySubscribe } = access(['up/#'], ['down/#'], 'u');
    assert.deepEqual([mayPublish('up/x'), mayPublish('down/x')], [true, false]);
    assert.deepEqual([maySubscribe('up/x'), maySubscribe('down/x')], [false, true]);
  });

  it('grant a filter only when they cover all of it', () => {
    const { maySubscribe } = access([], ['commands/{username}/#', 'news/+'], 'pump-17');
    for (const good of ['commands/pump-17/#', 'commands/pump-17/+/x', 'commands/pump-17', 'news/+', 'news/today']) {
      assert.ok(maySubscribe(good), good);
    }
    for (const bad of ['#', 'commands/#', 'commands/+/#', 'commands/pump-18/#', 'news/#', '+/+']) {
      assert.equal(maySubscribe(bad), false, bad);
    }
  });

  it('that are bound match nothing for a name that is no plain topic level', () => {
    for (const name of ['+', '#', 'a/b', '', 'a/#']) {
      const { mayPublish, maySubscribe } = access(['x/{username}'], ['x/{username}'], name);
      assert.equal(mayPublish(`x/${name}`), false, name);
      assert.equal(maySubscribe(`x/${name}`), false, name);
    }
    assert.equal(access(['x/{username}'], [], null).mayPublish('x/null'), false, 'anonymous');
  });

  it('let nobody subscribe to a topic of the broker but by its name', () => {
    assert.equal(access([], ['#'], 'u').maySubscribe('$SYS/#'), false);
    assert.equal(access([], ['{any}/#'], 'u').maySubscribe('$SYS/x'), false);
    assert.equal(access([], ['$SYS/#'], 'u').maySubscribe('$SYS/x'), true);
  });

  it('say what is wrong with their text', () => {
    for (const bad of ['', 'a/{b', 'a/{b}c', 'a/#/b', 'a+', 'a/{1x}', 'a\0'])
      assert.equal(typeof parseRule(bad), 'string', bad);
  });
});

describe('the users file', () => {
  const hash = `$scrypt$ln=14,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

  it('has users with passwords and rules; what is absent is not allowed', () => {
    const users = parseUsers(`
      users:
        pump-17: { password: "${hash}", publish: ["sensors/{site}/{username}/#"] }
        gate: {}
      certificates: { publish: ["x"] }
    `);
    if (typeof users === 'string') throw new Error(users);
    assert.equal(users.named.get('pump-17')!.password, hash);
    assert.deepEqual(users.named.get('pump-17')!.subscribe, []);
    assert.deepEqual(users.named.get('gate'), { password: null, publish: [], subscribe: [] });
    assert.deepEqual(users.certificates, { publish: [['x']], subscribe: [] });
    assert.deepEqual(users.anonymous, { publish: [], subscribe: [] });
  });

  for (const [what, text, expected] of [
    ['an unknown key', 'user: {}', /unknown key "user"; known are users/],
    ['an unknown key of a user', 'users: { a: { passwd: x } }', /users\.a has the unknown key "passwd"/],
    [
      'a password in clear, without showing it',
      'users: { a: { password: hunter2 } }',
      /^(?!.*hunter2).*users\.a\.password/,
    ],
    ['a bad rule', 'users: { a: { publish: ["a/#/b"] } }', /users\.a\.publish\[0\]/],
    ['a rule that is no list', 'users: { a: { publish: "a" } }', /users\.a\.publish is not a list/],
    ['a list of users', 'users: []', /users is not a map/],
    ['broken YAML', 'users: {', /./],
    [
      'broken YAML, without showing the line',
      'users:\n  a: { password: hunter2 ]',
      /^(?!.*hunter2)[^\n]* at line 2, column \d+$/,
    ],
    [
      'a name that a terminal would obey, without its control characters',
      '"a\\e[31m": {}',
      /unknown key "a\ufffd\[31m"/,
    ],
    ['the same user twice', 'users:\n  a: {}\n  a: {}', /unique/],
  ] as const) {
    it(`is refused for ${what}`, () => {
      const users = parseUsers(text);
      assert.equal(typeof users, 'string');
      assert.match(users as string, expected);
    });
  }

  it('that cannot be read is a configuration mistake that names it', () => {
    const users = readUsers('/nowhere/users.yaml');
    assert.ok(!users.ok && users.failure.code === 'CONFIG_INVALID');
    assert.match(users.failure.message, /\/nowhere\/users\.yaml/);
  });
});
