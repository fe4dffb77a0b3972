/**
 * The official test suite of JSON Schema through our validator, draft-07 and 2020-12, with everything that is optional in it,
 * formats too. What differs stands in schema-differences.ts with its reason; an entry there that does not differ fails as well.
 */
import assert from 'node:assert/strict';
import { compileSchema } from '../../src/inspect/validate.ts';
import { readSchemaSuite, type SuiteDraft, type SuiteFile, type SuiteGroup } from '../support/schema-suite.ts';
import { leaveOut } from '../support/servers.ts';
import { DIFFERENT, REFUSED } from './schema-differences.ts';

const DRAFTS: Readonly<Record<SuiteDraft, string>> = {
  draft7: 'http://json-schema.org/draft-07/schema#',
  'draft2020-12': 'https://json-schema.org/draft/2020-12/schema',
};

/** A schema is an object for us: `true` and `false` stand within one. */
function load({ schema }: SuiteGroup, draft: SuiteDraft) {
  const $schema = DRAFTS[draft];
  const whole = typeof schema === 'object' ? { $schema, ...schema } : { $schema, allOf: [schema] };
  return compileSchema(JSON.stringify(whole), '/s.json');
}

/** How a file differs from what the suite says: refused groups, and cases with another verdict. */
function differences({ groups }: SuiteFile, draft: SuiteDraft): { refused: Map<string, string>; different: string[] } {
  const refused = new Map<string, string>();
  const different: string[] = [];
  for (const group of groups) {
    const check = load(group, draft);
    if (!check.ok) {
      refused.set(group.description, check.failure.message);
      continue;
    }
    for (const { description, data, valid } of group.tests) {
      if ((check.value(data) === null) !== valid) different.push(`${group.description} | ${description}`);
    }
  }
  return { refused, different };
}

function listedIn(lists: readonly Readonly<Record<string, readonly string[]>>[], file: string): string[] {
  return lists.flatMap((list) => list[file] ?? []).sort();
}

for (const draft of Object.keys(DRAFTS) as SuiteDraft[]) {
  describe(`JSON Schema's official suite, ${draft}`, () => {
    const files = readSchemaSuite(draft);
    if (files === null) {
      it('is run', function () {
        leaveOut(this, 'schema-suite');
      });
      return;
    }

    for (const file of files) {
      const cases = file.groups.reduce((sum, { tests }) => sum + tests.length, 0);
      it(`${file.name}: ${file.groups.length} groups, ${cases} cases`, () => {
        const { refused, different } = differences(file, draft);
        const listed = REFUSED.map(({ groups }) => groups);
        assert.deepEqual([...refused.keys()].sort(), listedIn(listed, file.name), 'refused groups');
        for (const { groups, says, why } of REFUSED) {
          for (const name of groups[file.name] ?? []) assert.match(refused.get(name)!, says, why);
        }
        const others = DIFFERENT.map(({ cases }) => cases);
        assert.deepEqual(different.sort(), listedIn(others, file.name), 'cases with another verdict');
      });
    }

    it('has every file that the list of differences names', () => {
      const known = new Set(files.map(({ name }) => name));
      const named = [...REFUSED.map(({ groups }) => groups), ...DIFFERENT.map(({ cases }) => cases)].flatMap(
        Object.keys,
      );
      assert.deepEqual(
        named.filter((name) => name.startsWith(`${draft}/`) && !known.has(name)),
        [],
      );
    });
  });
}
