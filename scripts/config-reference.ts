import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pluginSchema } from '../src/plugin/agent/config.ts';
import type { AttrField, Field, Fields } from '../src/plugin/hcl/schema.ts';
import { builtinFields } from '../src/plugin/job/builtin/fields.ts';
import { taskSchema } from '../src/plugin/job/task.ts';

export const referencePath = join(resolve(import.meta.dirname, '..'), 'docs/configuration.md');

/** The reference as Markdown; the same schemas give the same text. */
export function renderReference(): string {
  return `${[
    '# Configuration',
    '<!-- Written by npm run docs. Edit src/plugin/agent, src/plugin/job or scripts/config-reference.ts instead. -->',
    agentHead,
    exampleOf('plugin "nomad-driver-qmp"', pluginSchema),
    ...sections(pluginSchema, ''),
    argumentsText,
    taskHead,
    exampleOf('task "web"', taskSchema),
    ...sections(taskSchema, ''),
    jobText,
    builtinHead,
    exampleOf('task "web"', builtinFields),
    ...sections(builtinFields, ''),
  ].join('\n\n')}\n`;
}

const agentHead = `## Agent: the plugin block

The label of the block is the name of the plugin's file. All keys can be left out. A mistake in it keeps the agent from
starting and is reported with the key. Problems of the host (no QEMU, no bridge) are reported as the driver's health
instead, and disappear without a restart when they are fixed. Changes need a restart of the agent.`;

const argumentsText = `### Arguments

\`args\` of the plugin block, beside \`config\`:

| Argument | Meaning |
| --- | --- |
| \`--driver-name NAME\` | What jobs write as \`driver\`. Default: the name of the file when that is \`virt\`, \`nomad-driver-virt\` or \`qemu\`, else \`virt\`. The node's attributes begin with \`driver.virt.\` in any case. |
| \`--log-file PATH\` | The log is written to this file as well. After an agent was killed and came back, the plugin's stderr has no reader; the file has those lines. |`;

const taskHead = `## Job: the config block of a task

All problems of a task are reported at once, each with its key.`;

const jobText = `### Other parts of a job

| Part | Effect |
| --- | --- |
| \`resources.memory\` | The guest's memory, in MiB: at least \`limits.min_memory_mb\`. |
| \`resources.memory_max\` | No effect. |
| \`resources.cores\` | As many vCPUs, on these cores. |
| \`resources.cpu\` | Weight of the VM among the others on the host; \`vcpus\` sets how many CPUs the guest has. |
| \`network { mode }\` | Only \`host\`, which is the default. |
| \`network { port }\` | Reaches the guest when \`network_interface\` names its label. Without \`to\` the guest's port is the same. |
| \`network { dns }\` | The guest gets servers and search domains; \`options\` are refused. |
| \`artifact\`, \`template\` | Files in the task directory; images and user data may be among them. \`/alloc\`, \`/local\` and \`/secrets\` are mounted in the guest, read-only. |
| \`env\` | The environment of root's login shells in the guest: only root can read the file. |
| \`kill_timeout\` | How long the guest has to power off after a stop. The client's \`max_kill_timeout\` (30 s unless set) is its limit. |
| \`kill_signal\` | \`SIGKILL\` skips powering off. Any other asks the guest to power off: its agent where one runs, else by the ACPI power button. |
| \`nomad alloc signal\` | \`SIGTERM\` and \`SIGINT\` ask the guest to power off, \`SIGKILL\` kills the VM, \`SIGSTOP\` and \`SIGCONT\` pause and resume it, \`SIGQUIT\` resets it, \`SIGUSR1\` is a non-maskable interrupt (a guest with kdump dumps), \`SIGHUP\` runs the command that \`exec { on_sighup }\` names; others are refused. |
| \`volume_mount\` | A disk, when \`disk { volume }\` names its destination: the block device that the volume is, or a file in its directory. Others are directories that the guest mounts at the destination. \`propagation_mode\` other than \`private\` and \`selinux_label\` are refused for them. |
| \`device\`, \`user\` | Refused: not supported. |`;

const builtinHead = `## Job for the driver \`qemu\`

Under the name \`qemu\` (the name of the plugin's file, or \`--driver-name\`) the driver takes the place of Nomad's builtin
\`qemu\` driver. Its jobs have these keys, and every key above; [migrating.md](migrating.md) has what differs.`;

/** One table per block: its attributes, then its blocks, each with a table of its own. */
function sections(fields: Fields, path: string): string[] {
  const entries = Object.entries(fields);
  const attrs = entries.filter((entry): entry is [string, AttrField] => entry[1].kind === 'attr');
  const rows = attrs.map(
    ([key, field]) => `| \`${key}\` | ${typeOf(field)} | ${defaultOf(field)} | ${cell(field)} |`,
  );
  const table = ['| Key | Type | Default | Meaning |', '| --- | --- | --- | --- |', ...rows];
  const inner = entries.flatMap(([key, field]) => {
    if (field.kind === 'attr' || field.kind === 'instead') return [];
    const name = path === '' ? key : `${path}.${key}`;
    return [`### ${name}`, `${often[field.kind]} ${field.doc}`, ...sections(field.fields, name)];
  });
  return attrs.length === 0 ? inner : [table.join('\n'), ...inner];
}

const often = {
  block: 'A block.',
  'block-list': 'A block that may be repeated.',
  'block-map': 'A block with a name that may be repeated, each time with another name.',
} as const;

function typeOf(field: AttrField): string {
  if (field.type === 'list(map(number))') return 'block of numbers';
  if (field.type === 'list(map(string))') return 'block of strings';
  return field.type === 'list(string)' ? 'list of strings' : field.type;
}

function defaultOf(field: AttrField): string {
  if (field.required) return 'required';
  return field.default === undefined ? '' : `\`${JSON.stringify(field.default)}\``;
}

function cell(field: AttrField): string {
  const sentences = [field.doc];
  if (field.oneOf) sentences.push(`One of ${field.oneOf.map((text) => `\`${text}\``).join(', ')}.`);
  if (field.min !== undefined && field.min > 0) sentences.push(`At least ${field.min}.`);
  if (field.max !== undefined && field.max !== Number.MAX_SAFE_INTEGER) {
    sentences.push(`At most ${field.max}.`);
  }
  return sentences.join(' ').replaceAll('|', '\\|');
}

/** Every key with its example. */
function exampleOf(head: string, fields: Fields): string {
  const body = ['config {', ...exampleLines(fields, '  '), '}'].map((line) => `  ${line}`);
  return ['```hcl', `${head} {`, ...body, '}', '```'].join('\n');
}

function exampleLines(fields: Fields, indent: string): string[] {
  const attrs = Object.entries(fields).filter(([, field]) => field.kind === 'attr');
  const width = Math.max(0, ...attrs.map(([key]) => key.length));
  return Object.entries(fields).flatMap(([key, field]) =>
    exampleOfField(key, field, { indent, width }),
  );
}

function exampleOfField(
  key: string,
  field: Field,
  { indent, width }: { readonly indent: string; readonly width: number },
): string[] {
  if (field.kind === 'attr') return [`${indent}${key.padEnd(width)} = ${field.example ?? '""'}`];
  if (field.kind === 'instead') return [];
  const label = field.kind === 'block-map' ? ` "${field.example}"` : '';
  return [`${indent}${key}${label} {`, ...exampleLines(field.fields, `${indent}  `), `${indent}}`];
}

/** Returns the path of the file. */
export function writeConfigurationReference(): string {
  writeFileSync(referencePath, renderReference());
  return referencePath;
}

if (import.meta.main) console.log(writeConfigurationReference());
