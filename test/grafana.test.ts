/** The committed dashboards are what the generator makes, and their queries are asked of a real InfluxDB. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { dashboards, render, sampleDashboards } from '../compose/grafana/generate.ts';
import { panelsOf } from './support/grafana.ts';

const folder = fileURLToPath(new URL('../compose/grafana/', import.meta.url));
const all = {
  ...Object.fromEntries(Object.entries(dashboards()).map(([name, board]) => [`grafana/dashboards/${name}`, board])),
  ...sampleDashboards(),
};

interface Variable {
  readonly name: string;
  readonly multi?: boolean;
  readonly includeAll?: boolean;
}

interface RowOrPanel {
  readonly type: string;
  readonly title?: string;
  readonly repeat?: string;
  readonly datasource?: { readonly uid?: string };
}

describe('The Grafana dashboards', () => {
  for (const [name, board] of Object.entries(all)) {
    it(`have ${name} committed as generated (npx tsx compose/grafana/generate.ts)`, () => {
      assert.equal(readFileSync(`${folder}../${name}`, 'utf8'), render(board));
    });

    it(`explain every panel of ${name} and use only provisioned sources`, () => {
      const sources = parse(readFileSync(`${folder}provisioning/datasources/millrace.yaml`, 'utf8')) as {
        datasources: { uid: string; name: string }[];
      };
      const uids = new Set([...sources.datasources.map((source) => source.uid), `\${source}`]);
      const panels = panelsOf(board);
      assert.ok(panels.length > 3);
      for (const panel of panels) {
        assert.ok(panel.title && panel.description, `${panel.title} has a description`);
        assert.ok(uids.has(panel.datasource?.uid ?? ''), `${panel.title} reads ${panel.datasource?.uid}`);
      }
    });

    it(`let every variable of ${name} but the metric have several values, and repeat what reads one window for each`, () => {
      const variables = (board.templating?.list ?? []) as Variable[];
      for (const { name, multi, includeAll } of variables) {
        assert.equal(multi === true && includeAll === true, name !== 'metric', name);
      }
      let repeated: string | undefined;
      let closed = 0;
      for (const panel of (board.panels ?? []) as RowOrPanel[]) {
        if (panel.type === 'row') repeated = panel.repeat;
        else if (panel.datasource?.uid === `\${source}`) {
          closed++;
          assert.equal(repeated, 'source', panel.title);
        } else assert.equal(repeated, undefined, `${panel.title} would be shown several times`);
      }
      const hasSource = variables.some(({ name }) => name === 'source');
      assert.equal(closed > 0, hasSource);
    });
  }
});
