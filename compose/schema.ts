/** Writes the editor schema beside this file, and those of readings in Kafka: `npx tsx compose/schema.ts`. Tests fail while a copy is stale. */
import { writeFileSync } from 'node:fs';
import { editorSchema } from '../src/config/editor.ts';
import { READING_AVRO, READING_JSON_SCHEMA } from '../src/journal/reading-avro.ts';

for (const [file, schema] of [
  ['millrace.schema.json', editorSchema()],
  ['kafka/reading.avsc', READING_AVRO],
  ['kafka/reading.schema.json', READING_JSON_SCHEMA],
] as const) {
  writeFileSync(new URL(file, import.meta.url), `${JSON.stringify(schema, null, 2)}\n`);
}
