import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { pluginSchema } from '../../src/plugin/agent/config.ts';
import type { Field, Fields } from '../../src/plugin/hcl/schema.ts';
import { taskSchema, taskSchemaOf } from '../../src/plugin/job/task.ts';
import { type HclEntry, parseHcl } from '../support/hcl.ts';

const examples = resolve(import.meta.dirname, '../../examples');
const files = readdirSync(examples).filter((name) => name.endsWith('.hcl'));
const jobs = files.filter((name) => name.endsWith('.nomad.hcl'));
const agents = files.filter((name) => !name.endsWith('.nomad.hcl'));

for (const file of jobs) {
  test(`V-133: every key in examples/${file} exists and every value has its type`, () => {
    const job = read(file).find(named('job'));
    const tasks = (job?.body ?? [])
      .filter(named('group'))
      .flatMap(({ body }) => body.filter(named('task')))
      // The VM's companions are of drivers that Nomad has itself.
      .filter(({ body }) => body.find(named('driver'))?.value !== '"raw_exec"');
    assert.ok(tasks.length > 0, 'there is no task');
    for (const task of tasks) {
      const driver = task.body.find(named('driver'))?.value;
      assert.equal(driver, file === 'qemu.nomad.hcl' ? '"qemu"' : '"virt"');
      const [config] = task.body.filter(named('config'));
      assert.ok(config !== undefined, 'the task has no config');
      assert.deepEqual(problems(taskSchemaOf(JSON.parse(driver ?? '')), config.body), []);
    }
  });
}

for (const file of agents) {
  test(`V-133: every key in examples/${file} exists and every value has its type`, () => {
    const [plugin] = read(file).filter(named('plugin'));
    assert.deepEqual(plugin?.labels, ['nomad-driver-qmp']);
    const config = plugin?.body.find(named('config'))?.body ?? [];
    assert.deepEqual(problems(pluginSchema, config), []);
  });
}

test('V-133: images of jobs that no artifact brings are in image_paths of the agents', () => {
  for (const file of agents.filter((name) => name !== 'agent-full.hcl')) {
    assert.match(
      readFileSync(join(examples, file), 'utf8'),
      /image_paths = \["\/var\/local\/images"\]/,
    );
  }
  for (const file of jobs) {
    const images = readFileSync(join(examples, file), 'utf8').matchAll(
      /"(\/[^"]*\.(?:qcow2|img))"/g,
    );
    for (const [, path = ''] of images) assert.match(path, /^\/var\/local\/images\//, file);
  }
});

test('V-133: no job ends its guest while cloud-init runs, which logs that as a failure', () => {
  for (const file of jobs) {
    const text = readFileSync(join(examples, file), 'utf8');
    assert.doesNotMatch(text, /"(sudo )?(systemctl )?(poweroff|halt|reboot|shutdown)\b/, file);
  }
});

test('V-133: what a job needs of a client beyond the agents here is in its first lines', () => {
  for (const file of jobs) {
    const text = readFileSync(join(examples, file), 'utf8');
    const [head = ''] = text.split(/^(?=[^#])/m);
    const needs = [
      ...text.matchAll(/^ +(?:source|host_network) += "([\w-]+)"$/gm),
      ...text.matchAll(/^ +driver += "(?!virt"|qemu")(\w+)"$/gm),
      ...text.matchAll(/^ +provider += "(consul)"$/gm),
    ];
    for (const [, name = ''] of needs) assert.match(head, new RegExp(name, 'i'), file);
  }
});

test('V-133: the jobs fit a machine of two cores, which have what else runs there', () => {
  for (const file of jobs) {
    const groups = (read(file).find(named('job'))?.body ?? []).filter(named('group'));
    const resources = groups
      .flatMap(({ body }) => body.filter(named('task')))
      .flatMap(({ body }) => body.filter(named('resources')))
      .flatMap(({ body }) => body);
    assert.deepEqual(resources.filter(named('cores')), [], `${file} reserves cores`);
    const sum = (name: string): number =>
      resources.filter(named(name)).reduce((total, { value }) => total + Number(value), 0);
    assert.ok(sum('cpu') > 0 && sum('cpu') <= 2000, `${file} has ${sum('cpu')} MHz`);
    assert.ok(sum('memory') <= 3072, `${file} has ${sum('memory')} MiB`);
  }
});

test('V-133: a guest has the time to power off, which Nomad’s 5 s are not', () => {
  for (const file of jobs) {
    const text = readFileSync(join(examples, file), 'utf8');
    const guests = text.match(/^ +driver += "(virt|qemu)"$/gm) ?? [];
    assert.equal(text.match(/^ +kill_timeout = "\d+[sm]"$/gm)?.length, guests.length, file);
  }
});

test('V-133: no job serves the root directory of its guest', () => {
  for (const file of jobs) {
    const lines = readFileSync(join(examples, file), 'utf8').split('\n');
    for (const line of lines.filter((text) => text.includes('http.server'))) {
      assert.match(line, /--(working-)?directory \/(srv|local)/, file);
    }
  }
});

test('V-133: the agent to try everything with is reached from its own machine only', () => {
  const agent = read('one-machine.hcl');
  const advertised = agent.find(named('advertise'))?.body ?? [];
  const addresses = [agent.find(named('bind_addr')), ...advertised].map((it) => it?.value);
  assert.deepEqual(addresses, Array(4).fill('"127.0.0.1"'));
});

test('V-133: the full agent example has every key of the plugin that has an effect', () => {
  const [plugin] = read('agent-full.hcl').filter(named('plugin'));
  const config = plugin?.body.find(named('config'))?.body ?? [];
  const {
    emulator: _,
    provider: __,
    args_allowlist: ___,
    emulators_allowlist: ____,
    ...effective
  } = pluginSchema;
  assert.deepEqual(missing(effective, config), []);
});

for (const file of ['images.md', 'storage.md']) {
  test(`V-133: every key in the jobs of docs/${file} exists and every value has its type`, () => {
    const document = readFileSync(join(examples, '../docs', file), 'utf8');
    const parts = [...document.matchAll(/^```hcl\n(.*?)^```$/gms)].flatMap(([, text = '']) =>
      parseHcl(onSeveralLines(text)),
    );
    const bodyOf = (name: string) => parts.filter(named(name)).flatMap(({ body }) => body);
    const disks = parts.filter(named('disk'));
    // Shown without the block that it is in.
    const throttle = parts.filter(named('throttle'));
    const shown = [
      ...bodyOf('config'),
      ...disks,
      ...throttle.map((it) => ({ ...it, name: 'disk', body: [it] })),
    ];
    assert.ok(shown.length > 0, 'there is no job');
    assert.deepEqual(problems(taskSchema, shown), []);
    assert.deepEqual(
      problems(
        pluginSchema,
        bodyOf('plugin').flatMap(({ body }) => body),
      ),
      [],
    );
  });
}

/** HCL without comments behind values, and with a line for each part of a block. */
function onSeveralLines(text: string): string {
  return text.replaceAll(/ +#.*$/gm, '').replaceAll(/^(\s*[\w-]+ \{) ([^}]*) \}$/gm, '$1\n$2\n}');
}

test('the check itself finds what is wrong', () => {
  const wrong = parseHcl('imagee = "x"\nvcpus = "2"\nos {\n  arch = 3\n}\nhostname {\n}\n');
  assert.deepEqual(problems(taskSchema, wrong), [
    'line 1: imagee is not a key',
    'line 2: vcpus is not a number: "2"',
    'line 4: arch is not a string: 3',
    'line 6: hostname is not a block',
  ]);
});

function read(file: string): readonly HclEntry[] {
  return parseHcl(readFileSync(join(examples, file), 'utf8'));
}

function named(name: string): (entry: HclEntry) => boolean {
  return (entry) => entry.name === name;
}

/** Keys, with the blocks that they are in, of which there is no entry. */
function missing(fields: Fields, entries: readonly HclEntry[]): readonly string[] {
  return Object.entries(fields).flatMap(([name, field]) => {
    const found = entries.filter(named(name));
    if (field.kind === 'instead') return [];
    if (found.length === 0) return [name];
    if (field.kind === 'attr') return [];
    const body = found.flatMap((entry) => entry.body);
    return missing(field.fields, body).map((key) => `${name}.${key}`);
  });
}

function problems(fields: Fields, entries: readonly HclEntry[]): readonly string[] {
  return entries.flatMap((entry) => {
    const field = Object.hasOwn(fields, entry.name) ? fields[entry.name] : undefined;
    const where = `line ${entry.line}: ${entry.name}`;
    return field === undefined ? [`${where} is not a key`] : problemsOf(field, entry, where);
  });
}

function problemsOf(field: Field, entry: HclEntry, where: string): readonly string[] {
  if (field.kind === 'instead') return [`${where} is not a key of this driver`];
  if (field.kind !== 'attr') {
    const labels = field.kind === 'block-map' ? 1 : 0;
    if (entry.labels.length !== labels) return [`${where} has ${entry.labels.length} labels`];
    return entry.value === undefined ? problems(field.fields, entry.body) : [`${where} is a block`];
  }
  if (entry.value === undefined) return [`${where} is not a block`];
  if (/^var\.\w+$/.test(entry.value)) return []; // given when the job is run
  if (!shapes[field.type].test(entry.value)) {
    return [`${where} is not a ${field.type}: ${entry.value}`];
  }
  const { oneOf } = field;
  const isKnown = oneOf === undefined || oneOf.some((word) => entry.value === `"${word}"`);
  return isKnown ? [] : [`${where} is not one of ${oneOf.join(', ')}: ${entry.value}`];
}

const shapes = {
  string: /^("[^"]*"$|<<)/,
  number: /^\d+$/,
  bool: /^(true|false)$/,
  'list(string)': /^\[/,
  'list(map(number))': /^\{/,
  'list(map(string))': /^\{/,
} as const;
