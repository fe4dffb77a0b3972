/**
 * Where our validator and the official suite of JSON Schema differ, all of it, each with its reason. REFUSED: the schema of the
 * group cannot be loaded, which is an error that its author sees. DIFFERENT: a verdict is another one. What stands here and does
 * not differ fails the tests, as does what differs and is not here. By file and the suite's own names.
 */

export interface RefusedGroups {
  readonly why: string;
  /** What the refusal must say. */
  readonly says: RegExp;
  readonly groups: Readonly<Record<string, readonly string[]>>;
}

export const REFUSED: readonly RefusedGroups[] = [
  {
    why: "Keywords that check nothing where they stand: a mistake of whoever wrote them. ajv's strict mode.",
    says: /strict mode: (?!unknown keyword)/,
    groups: {
      'draft7/additionalItems': [
        'when items is schema, additionalItems does nothing',
        'when items is schema, boolean additionalItems does nothing',
        'additionalItems as false without items',
        'additionalItems does not look in applicators, valid case',
        'additionalItems with null instance elements',
      ],
      'draft7/if-then-else': [
        'ignore if without then or else',
        'ignore then without if',
        'ignore else without if',
        'non-interference across combined schemas',
      ],
      'draft7/ref': ['ref to if', 'ref to then', 'ref to else'],
      'draft2020-12/if-then-else': [
        'ignore if without then or else',
        'ignore then without if',
        'ignore else without if',
        'non-interference across combined schemas',
      ],
      'draft2020-12/maxContains': ['maxContains without contains is ignored'],
      'draft2020-12/minContains': [
        'minContains without contains is ignored',
        'maxContains < minContains',
        'minContains = 0',
      ],
      'draft2020-12/ref': ['ref to if', 'ref to then', 'ref to else'],
    },
  },
  {
    why: 'A keyword that nobody knows may be a known one misspelt.',
    says: /unknown keyword/,
    groups: {
      'draft2020-12/optional/refOfUnknownKeyword': [
        'reference of a root arbitrary keyword ',
        'reference of an arbitrary keyword of a sub-schema',
      ],
    },
  },
  {
    why: 'A format that is not checked is not accepted in silence.',
    says: /unknown format/,
    groups: {
      'draft7/format': ['idn-email format', 'idn-hostname format', 'iri format', 'iri-reference format'],
      'draft7/optional/format/idn-email': ['validation of an internationalized e-mail addresses'],
      'draft7/optional/format/idn-hostname': [
        'validation of internationalized host names',
        'validation of separators in internationalized host names',
      ],
      'draft7/optional/format/iri-reference': ['validation of IRI References'],
      'draft7/optional/format/iri': ['validation of IRIs'],
      'draft7/optional/format/unknown': ['unknown format'],
      'draft2020-12/format': ['idn-email format', 'idn-hostname format', 'iri format', 'iri-reference format'],
      'draft2020-12/optional/format/idn-email': ['validation of an internationalized e-mail addresses'],
      'draft2020-12/optional/format/idn-hostname': [
        'validation of internationalized host names',
        'validation of separators in internationalized host names',
      ],
      'draft2020-12/optional/format/iri-reference': ['validation of IRI References'],
      'draft2020-12/optional/format/iri': ['validation of IRIs'],
      'draft2020-12/optional/format/unknown': ['unknown format'],
    },
  },
  {
    why: 'A schema is one file, and nothing is fetched.',
    says: /can't resolve reference/,
    groups: {
      'draft7/optional/cross-draft': ['refs to future drafts are processed as future drafts'],
      'draft7/refRemote': [
        'remote ref',
        'fragment within remote ref',
        'ref within remote ref',
        'base URI change',
        'base URI change - change folder',
        'base URI change - change folder in subschema',
        'root ref in remote ref',
        'remote ref with ref to definitions',
        'Location-independent identifier in remote ref',
        'retrieved nested refs resolve relative to their URI not $id',
        '$ref to $ref finds location-independent $id',
      ],
      'draft2020-12/dynamicRef': [
        'strict-tree schema, guards against misspelled properties',
        'tests for implementation dynamic anchor and reference link',
        '$ref and $dynamicAnchor are independent of order - $defs first',
        '$ref and $dynamicAnchor are independent of order - $ref first',
        '$ref to $dynamicRef finds detached $dynamicAnchor',
      ],
      'draft2020-12/optional/cross-draft': ['refs to historic drafts are processed as historic drafts'],
      'draft2020-12/refRemote': [
        'remote ref',
        'fragment within remote ref',
        'anchor within remote ref',
        'ref within remote ref',
        'base URI change',
        'base URI change - change folder',
        'base URI change - change folder in subschema',
        'root ref in remote ref',
        'remote ref with ref to defs',
        'Location-independent identifier in remote ref',
        'retrieved nested refs resolve relative to their URI not $id',
        'remote HTTP ref with different $id',
        'remote HTTP ref with different URN $id',
        'remote HTTP ref with nested absolute ref',
        '$ref to $ref finds detached $anchor',
      ],
    },
  },
  {
    why: 'Only the two drafts themselves are read, not metaschemas made of them.',
    says: /has \$schema/,
    groups: {
      'draft2020-12/optional/format-assertion': [
        'schema that uses custom metaschema with format-assertion: false',
        'schema that uses custom metaschema with format-assertion: true',
      ],
      'draft2020-12/vocabulary': [
        'schema that uses custom metaschema with with no validation vocabulary',
        'ignore unrecognized optional vocabulary',
      ],
    },
  },
  {
    why: 'Not supported: ajv follows it without looking at where a schema resource ends.',
    says: /"\$dynamicRef" is not supported/,
    groups: {
      'draft2020-12/dynamicRef': [
        'A $dynamicRef to a $dynamicAnchor in the same schema resource behaves like a normal $ref to an $anchor',
        'A $dynamicRef to an $anchor in the same schema resource behaves like a normal $ref to an $anchor',
        'A $dynamicRef resolves to the first $dynamicAnchor still in scope that is encountered when the schema is evaluated',
        'A $dynamicRef without anchor in fragment behaves identical to $ref',
        "A $dynamicRef with intermediate scopes that don't include a matching $dynamicAnchor does not affect dynamic scope resolution",
        'An $anchor with the same name as a $dynamicAnchor is not used for dynamic scope resolution',
        'A $dynamicRef without a matching $dynamicAnchor in the same schema resource behaves like a normal $ref to $anchor',
        'A $dynamicRef with a non-matching $dynamicAnchor in the same schema resource behaves like a normal $ref to $anchor',
        'A $dynamicRef that initially resolves to a schema with a matching $dynamicAnchor resolves to the first $dynamicAnchor in the dynamic scope',
        'A $dynamicRef that initially resolves to a schema without a matching $dynamicAnchor behaves like a normal $ref to $anchor',
        'multiple dynamic paths to the $dynamicRef keyword',
        'after leaving a dynamic scope, it is not used by a $dynamicRef',
        '$dynamicRef points to a boolean schema',
        '$dynamicRef skips over intermediate resources - direct reference',
      ],
      'draft2020-12/optional/dynamicRef': [
        '$dynamicRef skips over intermediate resources - pointer reference across resource boundary',
      ],
      'draft2020-12/unevaluatedItems': ['unevaluatedItems with $dynamicRef'],
      'draft2020-12/unevaluatedProperties': ['unevaluatedProperties with $dynamicRef'],
    },
  },
  {
    why: 'Combinations in which ajv forgets, or invents, what was evaluated.',
    says: /"unevaluatedItems"|"unevaluatedProperties"/,
    groups: {
      'draft2020-12/unevaluatedItems': [
        'unevaluatedItems with nested items',
        'unevaluatedItems depends on adjacent contains',
        'unevaluatedItems depends on multiple nested contains',
        'unevaluatedItems and contains interact to control item dependency relationship',
        'unevaluatedItems can see annotations from if without then and else',
      ],
      'draft2020-12/unevaluatedProperties': [
        'unevaluatedProperties with if/then/else, then not defined',
        'unevaluatedProperties can see annotations from if without then and else',
      ],
    },
  },
  {
    why: 'In draft-07 nothing beside a reference is looked at: what stands there is a mistake.',
    says: /beside "\$ref"/,
    groups: {
      'draft7/ref': ['ref overrides any sibling keywords', '$ref prevents a sibling $id from changing the base uri'],
    },
  },
  {
    why: 'A reference to a schema with an `$id` of its own, within it: ajv does not find the end.',
    says: /Maximum call stack/,
    groups: {
      'draft2020-12/ref': [
        'refs with relative uris and defs',
        'relative refs with absolute uris and defs',
        'URN ref with nested pointer ref',
      ],
    },
  },
  {
    why: 'ajv looks for an `$id` also where no schema is.',
    says: /more than one schema/,
    groups: {
      'draft7/optional/unknownKeyword': ['$id inside an unknown keyword is not a real identifier'],
      'draft2020-12/optional/unknownKeyword': ['$id inside an unknown keyword is not a real identifier'],
    },
  },
];

export interface DifferentCases {
  readonly why: string;
  /** As `group | case`. */
  readonly cases: Readonly<Record<string, readonly string[]>>;
}

export const DIFFERENT: readonly DifferentCases[] = [
  {
    why: 'Optional in draft-07, and annotations since: what a text holds is not looked at.',
    cases: {
      'draft7/optional/content': [
        'validation of string-encoded content based on media type | an invalid JSON document',
        'validation of binary string-encoding | an invalid base64 string (% is not a valid character)',
        'validation of binary-encoded media type documents | a validly-encoded invalid JSON document',
        'validation of binary-encoded media type documents | an invalid base64 string that is valid JSON',
      ],
    },
  },
  {
    why: 'ajv does not see a property of that name; a payload that has one is refused before its schema is asked.',
    cases: {
      'draft7/properties': ['properties whose names are Javascript object property names | __proto__ not valid'],
      'draft2020-12/properties': ['properties whose names are Javascript object property names | __proto__ not valid'],
    },
  },
  {
    why: '`format` is asserted in 2020-12 too: whoever writes it wants it checked.',
    cases: {
      'draft2020-12/format': [
        'email format | invalid email string is only an annotation by default',
        'regex format | invalid regex string is only an annotation by default',
        'ipv4 format | invalid ipv4 string is only an annotation by default',
        'ipv6 format | invalid ipv6 string is only an annotation by default',
        'hostname format | invalid hostname string is only an annotation by default',
        'date format | invalid date string is only an annotation by default',
        'date-time format | invalid date-time string is only an annotation by default',
        'time format | invalid time string is only an annotation by default',
        'json-pointer format | invalid json-pointer string is only an annotation by default',
        'relative-json-pointer format | invalid relative-json-pointer string is only an annotation by default',
        'uri format | invalid uri string is only an annotation by default',
        'uri-reference format | invalid uri-reference string is only an annotation by default',
        'uri-template format | invalid uri-template string is only an annotation by default',
        'uuid format | invalid uuid string is only an annotation by default',
        'duration format | invalid duration string is only an annotation by default',
      ],
    },
  },
  {
    why: 'A text that is said to be a pattern is tried without the flag `u`.',
    cases: {
      'draft2020-12/optional/format/ecmascript-regex': [
        '\\a is not an ECMA 262 control escape | when used as a pattern',
      ],
    },
  },
  {
    why: 'Addresses in the usual form only: no quoted names, no addresses of machines.',
    cases: {
      'draft2020-12/optional/format/email': [
        'validation of e-mail addresses | a quoted string with a space in the local part is valid',
        'validation of e-mail addresses | a quoted string with a double dot in the local part is valid',
        'validation of e-mail addresses | a quoted string with a @ in the local part is valid',
        'validation of e-mail addresses | an IPv4-address-literal after the @ is valid',
        'validation of e-mail addresses | an IPv6-address-literal after the @ is valid',
      ],
    },
  },
];
