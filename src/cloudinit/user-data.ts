import { yamlShape } from './yaml.ts';

const maxBytes = 1024 * 1024;

// Where cloud-init looks for the MIME header (user_data.convert_string).
const mimeWindow = 4096;

type Kind =
  | 'archive'
  | 'boothook'
  | 'config'
  | 'handler'
  | 'include'
  | 'jinja'
  | 'patch'
  | 'script'
  | 'upstart';

// The first that matches decides, as in cloud-init's handlers: longer before shorter. Compared in lower case.
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
];

const known =
  '#cloud-config, #!, #include, #cloud-boothook, #cloud-config-archive, ' +
  '#cloud-config-jsonp, #part-handler, ## template: jinja, or a MIME message';

/**
 * What would keep cloud-init from doing what this user data says, a sentence each with the line where there is one.
 * Blank text is fine: it means no user data.
 */
export function checkUserData(text: string): readonly string[] {
  if (text.trim() === '') return [];
  const size = Buffer.byteLength(text);
  if (size > maxBytes) return [`it is ${size} bytes long; at most ${maxBytes} fit`];
  if (text.includes('\0')) {
    const line = text.slice(0, text.indexOf('\0')).split('\n').length;
    return [`line ${line}: a NUL byte`];
  }
  if (!text.isWellFormed()) return ['it is not valid Unicode'];
  if (text.startsWith('\ufeff')) {
    return ['line 1: a byte order mark before the header, so cloud-init would ignore all of it'];
  }
  if (/mime-version:/i.test(text.slice(0, mimeWindow))) return mimeProblems(text);
  const start = text.length - text.trimStart().length;
  return partProblems(text.slice(start), text.slice(0, start).split('\n').length, start);
}

/** `line` is the number of the text's first line, `skipped` how many blank characters stood before it. */
function partProblems(text: string, line: number, skipped: number): readonly string[] {
  const kind = headers.find(([header]) => text.toLowerCase().startsWith(header))?.[1];
  const rest = text.slice(text.indexOf('\n') + 1 || text.length);
  switch (kind) {
    case undefined:
      return [headerless(text, line)];
    case 'config':
      return configProblems(rest, line);
    case 'archive':
      return archiveProblems(rest, line);
    case 'patch':
      return patchProblems(text, line);
    case 'include':
      return includeProblems(text, line);
    case 'jinja':
      return templateProblems(rest, line + 1);
    case 'script':
      return skipped === 0 ? [] : [`line ${line}: nothing may stand before #!, not even a blank`];
    case 'boothook':
    case 'handler':
    case 'upstart':
      return [];
    default:
      return kind satisfies never;
  }
}

function headerless(text: string, line: number): string {
  const first = JSON.stringify((text.split('\n', 1)[0] ?? '').slice(0, 40));
  const shape = yamlShape(text);
  const why =
    shape.kind === 'mapping' && shape.problems.length === 0
      ? 'the first line must be #cloud-config; without it cloud-init ignores the text, though it reads like cloud-config'
      : `unknown kind of user data, cloud-init would ignore it; it must start with ${known}`;
  return `line ${line}: ${why} (found ${first})`;
}

function configProblems(rest: string, line: number): readonly string[] {
  const { kind, problems } = yamlShape(rest, line + 1);
  if (problems.length > 0) return problems;
  return kind === 'mapping' || kind === 'empty'
    ? []
    : [`line ${line + 1}: cloud-config must be a mapping of keys to values, not a ${kind}`];
}

function archiveProblems(rest: string, line: number): readonly string[] {
  const { kind, problems } = yamlShape(rest, line + 1);
  if (problems.length > 0) return problems;
  return kind === 'list' || kind === 'empty'
    ? []
    : [`line ${line + 1}: a cloud-config archive must be a list of parts, not a ${kind}`];
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
    .map((it) => it.replace(/^#include(-once)?/i, '').trim())
    .filter((it) => it !== '' && !it.startsWith('#'));
  return targets.length > 0 ? [] : [`line ${line}: #include names no address`];
}

// What a template renders to is known in the guest only; its kind is told by the line after the template's own.
function templateProblems(rest: string, line: number): readonly string[] {
  const kind = headers.find(([header]) => rest.toLowerCase().trimStart().startsWith(header))?.[1];
  return kind === undefined || kind === 'jinja'
    ? [`line ${line}: below "## template: jinja" must stand a header such as #cloud-config`]
    : [];
}

function mimeProblems(text: string): readonly string[] {
  const [head = '', ...bodies] = text.replaceAll('\r\n', '\n').split('\n\n');
  const unfolded = head.replace(/\n[ \t]+/g, ' ');
  const wrong = unfolded.split('\n').findIndex((it) => !/^(From |[!-9;-~]+:)/.test(it));
  if (wrong >= 0) return [`line ${wrong + 1}: not a MIME header`];
  const type = /^content-type:\s*([^;\s]+)/im.exec(unfolded)?.[1]?.toLowerCase();
  if (type === undefined) return ['the MIME message has no Content-Type header'];
  if (!type.startsWith('multipart/')) return [];
  const boundary = /;\s*boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(unfolded);
  const mark = boundary?.[1] ?? boundary?.[2];
  if (mark === undefined) return ['the multipart message names no boundary'];
  const parts = bodies.join('\n\n').split('\n');
  return parts.some((it) => it.trimEnd() === `--${mark}`)
    ? []
    : [`no part begins with the boundary ${JSON.stringify(mark)}`];
}
