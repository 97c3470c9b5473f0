import { quoted } from '#spec';
import { ignitionProblems, looksLikeIgnition } from './ignition.ts';
import { isMessage, parseMessage } from './mime.ts';
import { type UserData, userDataText } from './user-data-text.ts';
import { yamlShape } from './yaml.ts';

type Kind =
  | 'archive'
  | 'boothook'
  | 'config'
  | 'foreign'
  | 'handler'
  | 'include'
  | 'jinja'
  | 'patch'
  | 'script'
  | 'upstart';

// The first match decides, as in cloud-init's handlers: longer before shorter. Compared in lower case.
const headers: readonly (readonly [string, Kind])[] = [
  ['#cloud-config-archive', 'archive'],
  ['#cloud-config-jsonp', 'patch'],
  ['#cloud-boothook', 'boothook'],
  ['#cloud-config', 'config'],
  ['#part-handler', 'handler'],
  ['#include-once', 'include'],
  ['#upstart-job', 'upstart'],
  ['#include', 'include'],
  ['## template: jinja', 'jinja'],
  ['#!', 'script'],
  // Scripts that cloudbase-init runs in Windows guests.
  ['#ps1', 'foreign'],
  // Alpine's tiny-cloud.
  ['#alpine-config', 'foreign'],
  ['rem cmd', 'foreign'],
];

const known =
  '#cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive, ' +
  '#cloud-config-jsonp, #part-handler, ## template: jinja, or a MIME message';

// What Python counts as blank (str.lstrip).
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are the point
const blanks = /^[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*/;

/**
 * What would prevent cloud-init from applying this user data, a sentence each with the line where there is one. Blank
 * text is valid: it means no user data.
 */
export function checkUserData(userData: UserData): readonly string[] {
  const read = userDataText(userData);
  if ('problem' in read) return [read.problem];
  const { text } = read;
  if (text.trim() === '') return [];
  if (text.startsWith('\ufeff')) {
    return ['line 1: a byte order mark before the header, so cloud-init would ignore all of it'];
  }
  if (isMessage(text)) return messageProblems(text);
  if (looksLikeIgnition(text)) return ignitionProblems(text);
  return isForeign(text) ? [] : partProblems(text, 1);
}

// Talos' machine config, whose documents beside the first have an apiVersion.
const talos = [
  [/^version: v1alpha1[ \r]*$/m, /^machine:/m],
  [/^apiVersion: v1alpha1[ \r]*$/m, /^kind: \w/m],
] as const;

/** Whether the data is for another reader than cloud-init, which would do nothing with it. */
function isForeign(text: string): boolean {
  if (/^\s*#(?:cloud|!)/.test(text)) return false;
  return talos.some((marks) => marks.every((mark) => mark.test(text)));
}

function messageProblems(text: string): readonly string[] {
  const { type, boundary, encoded, body, headLines } = parseMessage(text);
  const line = headLines + 1;
  const spoiled = spoiledProblems(body, line);
  if (spoiled.length > 0) return spoiled;
  if (type.startsWith('multipart/')) return multipartProblems(body, boundary);
  if (encoded) return [];
  if (body.trim() === '') return [headerless(text, 1)];
  // Plain text is recognised by its own first line. The content of other types is left to cloud-init.
  if (type === 'text/plain' || type === 'text/x-not-multipart') return partProblems(body, line);
  return type === 'text/cloud-config' ? shapeProblems(body, line, 'mapping') : [];
}

// Python's Message.get_payload gives Latin-1 for these letters, and cloud-init reads that as UTF-8. Other letters become
// \u escapes, with which the text keeps its meaning.
function spoiledProblems(body: string, line: number): readonly string[] {
  const found = /[\x80-\xff]/.exec(body);
  if (found === null) return [];
  const place = `line ${lineAt(body, found.index, line)}: ${JSON.stringify(found[0])}`;
  return [
    `${place} would be lost: cloud-init takes what has "MIME-Version:" in its first 4096 bytes for an e-mail ` +
      'message; move "MIME-Version:" further down, write the letter as an escape, or encode the text in base64',
  ];
}

function lineAt(text: string, at: number, firstLine: number): number {
  return firstLine + text.slice(0, at).split('\n').length - 1;
}

function multipartProblems(body: string, boundary: string | undefined): readonly string[] {
  if (boundary === undefined || boundary === '') {
    return ['the multipart message names no boundary'];
  }
  return body.split(/\r\n|[\r\n]/).some((line) => line.trimEnd() === `--${boundary}`)
    ? []
    : [`no part begins with the boundary ${quoted(boundary)}`];
}

/** `firstLine` is the number of the text's first line in the whole user data. */
function partProblems(text: string, firstLine: number): readonly string[] {
  const skipped = blanks.exec(text)?.[0].length ?? 0;
  const line = lineAt(text, skipped, firstLine);
  const part = text.slice(skipped);
  const kind = kindOf(part);
  switch (kind) {
    case undefined:
      return [headerless(part, line)];
    case 'config':
      return shapeProblems(text, firstLine, 'mapping');
    case 'archive':
      return shapeProblems(text, firstLine, 'list');
    case 'patch':
      return patchProblems(part, line);
    case 'include':
      return includeProblems(part, line);
    case 'jinja':
      return skipped === 0 ? templateProblems(part, line) : [nothingBefore(line, '## template:')];
    case 'script':
      return skipped === 0 ? [] : [nothingBefore(line, '#!')];
    case 'boothook':
    case 'foreign':
    case 'handler':
    case 'upstart':
      return [];
    default:
      return kind satisfies never;
  }
}

function kindOf(part: string): Kind | undefined {
  const start = part.slice(0, 40).toLowerCase();
  return headers.find(([header]) => start.startsWith(header))?.[1];
}

function nothingBefore(line: number, header: string): string {
  return `line ${line}: nothing may come before ${header}, not even a blank`;
}

function headerless(text: string, line: number): string {
  const first = quote(text.split('\n', 1)[0] ?? '');
  const shape = yamlShape(text);
  const problem =
    shape.kind === 'mapping' && shape.problems.length === 0
      ? 'the first line must be #cloud-config; without it cloud-init ignores the text, though it looks like cloud-config'
      : `unknown kind of user data, cloud-init would ignore it; it must start with ${known}`;
  return `line ${line}: ${problem} (found ${first})`;
}

const shapes = {
  mapping: 'cloud-config must be a mapping of keys to values',
  list: 'a cloud-config archive must be a list of parts',
} as const;

function shapeProblems(
  text: string,
  firstLine: number,
  wanted: keyof typeof shapes,
): readonly string[] {
  const { kind, line, problems } = yamlShape(text, firstLine);
  if (problems.length > 0 || kind === wanted || kind === 'empty') return problems;
  return [`line ${line}: ${shapes[wanted]}, not a ${kind}`];
}

// cloud-init strips the header and parses what follows it, on the same line or on later ones.
function patchProblems(text: string, line: number): readonly string[] {
  try {
    const patch: unknown = JSON.parse(text.slice('#cloud-config-jsonp'.length));
    return Array.isArray(patch) ? [] : [`line ${line}: a JSON patch must be a list of operations`];
  } catch (error) {
    return [`line ${line}: not a JSON patch: ${error instanceof Error ? error.message : error}`];
  }
}

function includeProblems(text: string, line: number): readonly string[] {
  const targets = text
    .split('\n')
    .map((target) => target.replace(/^#include(-once)?/i, '').trim())
    .filter((target) => target !== '' && !target.startsWith('#'));
  return targets.length > 0 ? [] : [`line ${line}: #include names no address`];
}

// The result of a template is known in the guest only. Its kind follows from the line after the template's own, unless
// that is a block of the template, too.
function templateProblems(part: string, line: number): readonly string[] {
  const [first = '', ...rest] = part.split('\n');
  if (!/^##\s*template:\s*jinja\s*$/i.test(first)) {
    return [`line ${line}: only jinja may follow "## template:" (found ${quote(first)})`];
  }
  const below = rest.join('\n').replace(blanks, '');
  const kind = kindOf(below);
  return (kind === undefined && !/^\{[%#{]/.test(below)) || kind === 'jinja'
    ? [`line ${line + 1}: a header such as #cloud-config must follow "## template: jinja"`]
    : [];
}

function quote(line: string): string {
  return JSON.stringify(line.slice(0, 40));
}
