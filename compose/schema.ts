/** Writes the editor schema beside this file: `npx tsx compose/schema.ts`. A test fails while the copy is stale. */
import { writeFileSync } from 'node:fs';
import { editorSchema } from '../src/config-editor.ts';

writeFileSync(new URL('millrace.schema.json', import.meta.url), `${JSON.stringify(editorSchema(), null, 2)}\n`);
