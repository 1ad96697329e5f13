/** The alert rules and the dashboard are right, and name only metrics that there are. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { METRICS } from '../../src/monitor/metrics/table.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { PROMTOOL } from '../helpers/machines/promtool.js';
import { testWith } from '../helpers/requirements.js';

const FOLDER = 'packaging/prometheus';
const RULES = `${FOLDER}/stillpoint.rules.yml`;
const WITH_PROMTOOL = [{ missing: PROMTOOL === null ? 'promtool is not installed' : null }];

const rules = readFileSync(RULES, 'utf8');
const tests = readFileSync(`${FOLDER}/stillpoint.rules.test.yml`, 'utf8');

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}
const dashboard = JSON.parse(readFileSync(`${FOLDER}/grafana-dashboard.json`, 'utf8')) as {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
};
const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

function promtool(...args: string[]): string {
  const { stdout, stderr, status } = spawnSync(PROMTOOL ?? '', args, { encoding: 'utf8' });
  return status === 0 ? '' : `${stdout}${stderr}`;
}

test('rules and dashboard name only metrics that there are, with labels that they have', (t) => {
  const queries = variablesOf().map(({ definition = '' }) => definition);
  // `up` is Prometheus' own, and so are the labels of the machine that was scraped.
  const known = { ...METRICS, up: { labels: [] } } as Record<string, { labels: readonly string[] }>;
  const scraped = ['job', 'instance'];
  for (const text of [rules, tests, ...expressions, ...queries]) {
    for (const [, name = '', labels = ''] of text.matchAll(/\b(stillpoint_\w+)(?:\{([^}]*)\})?/g)) {
      t.true(name in known, name);
      for (const [, label = ''] of labels.matchAll(/(\w+)\s*(?:=~?|!=|!~)/g))
        t.true([...(known[name]?.labels ?? []), ...scraped].includes(label), `${name}: ${label}`);
    }
  }
  t.true(expressions.length > 15);
});

function variablesOf() {
  return dashboard.templating.list;
}

test('texts of alerts and legends use only labels that their metrics have', (t) => {
  const labels = new Set(['job', 'instance', ...Object.values(METRICS).flatMap((row) => [...row.labels])]);
  const legends = dashboard.panels.flatMap(({ targets = [] }) => targets.map((each) => each.legendFormat));
  const used = [
    ...[...rules.matchAll(/\$labels\.(\w+)/g)].map(([, name]) => name),
    ...legends.flatMap((text) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map(([, name]) => name)),
  ];
  t.true(used.length > 20);
  for (const name of used) t.true(labels.has(name ?? ''), name);
  const names = variablesOf().map(({ name }) => `$${name}`);
  for (const expr of expressions)
    for (const [variable] of expr.matchAll(/\$\w+/g)) t.true(names.includes(variable), variable);
});

test('every alert says what to do, and how bad it is', (t) => {
  const alerts = rules.split(/^ {6}- alert: /m).slice(1);
  t.true(alerts.length > 10);
  for (const alert of alerts)
    for (const part of [/^ {10}summary: "/m, /^ {10}runbook: "/m, /severity: (warning|critical)/])
      t.regex(alert, part);
});

test('panels of the dashboard are told apart, and none has no query', (t) => {
  const ids = dashboard.panels.map(({ id }) => id);
  t.is(new Set(ids).size, ids.length);
  for (const { title, targets } of dashboard.panels)
    t.true(targets === undefined || targets.length > 0, title);
});

testWith(WITH_PROMTOOL, 'promtool finds the rules right, and they fire when they should', async (t) => {
  t.is(promtool('check', 'rules', RULES), '');
  t.is(promtool('test', 'rules', `${FOLDER}/stillpoint.rules.test.yml`), '');
});

testWith(WITH_PROMTOOL, "promtool finds the dashboard's expressions right", async (t) => {
  const file = join(await tempDir(t), 'dashboard.yml');
  const asRules = expressions.map((expr, i) => ({
    record: `dashboard:${i}`,
    expr: expr.replaceAll('$agent', '.*'),
  }));
  // JSON is YAML.
  await writeFile(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: asRules }] }));
  t.is(promtool('check', 'rules', file), '');
});
