import { quoted } from '#spec';
import { PluginError } from '../error/plugin-error.ts';
import { CtyError, type CtyValue, decodeCty, isList, isMap, toNumber } from './cty.ts';
import type { Problem } from './problem.ts';
import type { AttrField, BlockListField, Decoded, Field, Fields, InsteadField } from './schema.ts';

/**
 * Decodes a configuration as Nomad sends it; `what` names it. Problems are collected as by `decodeFields`. Throws
 * PluginError 'invalid' when the bytes are no configuration at all.
 */
export function decodeConfig<F extends Fields>(
  fields: F,
  bytes: Uint8Array,
  { what, problems }: { readonly what: string; readonly problems: Problem[] },
): Decoded<F> {
  try {
    return decodeFields(fields, decodeCty(bytes), problems);
  } catch (cause) {
    if (!(cause instanceof CtyError)) throw cause;
    throw new PluginError('invalid', `failed to decode ${what}`, { cause });
  }
}

/**
 * Decodes a block by its fields. A missing key is a null, null is the default, and unknown keys are ignored: a newer
 * agent may know more. Everything wrong is added to `problems`; the value is valid only when nothing was added.
 */
function decodeFields<F extends Fields>(
  fields: F,
  value: CtyValue,
  problems: Problem[],
): Decoded<F> {
  return decodeBlock(fields, value, { path: '', problems }) as Decoded<F>;
}

/** The value of a block that was left out. */
export function blockDefaults<F extends Fields>(fields: F): Decoded<F> {
  return decodeFields(fields, null, []);
}

interface Place {
  readonly path: string;
  readonly problems: Problem[];
}

function decodeBlock(fields: Fields, value: CtyValue, place: Place): Record<string, unknown> {
  let map: { readonly [key: string]: CtyValue } = {};
  if (value !== null) {
    if (isMap(value)) map = value;
    else report(place, `must be a block, not ${kindOf(value)}`);
  }
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => {
      const path = place.path === '' ? name : `${place.path}.${name}`;
      const inner = Object.hasOwn(map, name) ? (map[name] ?? null) : null;
      return [name, decodeField(field, inner, { path, problems: place.problems })];
    }),
  );
}

function decodeField(field: Field, value: CtyValue, place: Place): unknown {
  switch (field.kind) {
    case 'attr':
      return decodeAttr(field, value, place);
    case 'block':
      return decodeOptionalBlock(field.fields, value, place);
    case 'block-list':
      return decodeBlockList(field, value, place);
    case 'block-map':
      return decodeBlockMap(field.fields, value, place);
    case 'instead':
      if (value !== null) report(place, `is not a key of this driver: ${answerOf(field)}`);
      return undefined;
    default:
      return field satisfies never;
  }
}

function answerOf({ use, needless }: InsteadField): string {
  return use === undefined ? `leave it out, ${needless}` : `use ${use}`;
}

/** Jobs posted as JSON may write a single block as a list of one. */
function decodeOptionalBlock(fields: Fields, value: CtyValue, place: Place): unknown {
  if (isList(value)) {
    if (value.length > 1) report(place, 'may be specified only once');
    return decodeOptionalBlock(fields, value[0] ?? null, place);
  }
  return value === null ? undefined : decodeBlock(fields, value, place);
}

function decodeBlockList(
  { fields, firstIndex = 0 }: BlockListField,
  value: CtyValue,
  place: Place,
): unknown {
  const blocks = value === null ? [] : isList(value) ? value : [value];
  return blocks.map((block, index) =>
    decodeBlock(fields, block, { ...place, path: `${place.path}[${firstIndex + index}]` }),
  );
}

function decodeBlockMap(fields: Fields, value: CtyValue, place: Place): unknown {
  if (value !== null && !isMap(value)) report(place, 'must be a block with a name');
  const blocks = isMap(value) ? Object.entries(value) : [];
  return new Map(
    blocks.map(([label, block]) => {
      const inner = { ...place, path: `${place.path}.${label}` };
      return [label, decodeOptionalBlock(fields, block, inner) ?? decodeBlock(fields, null, inner)];
    }),
  );
}

function decodeAttr(field: AttrField, value: CtyValue, place: Place): unknown {
  if (value === null) {
    if (field.required) report(place, 'is required');
    return field.default ?? (field.required ? empty[field.type] : undefined);
  }
  switch (field.type) {
    case 'string':
      return decodeText(field, value, place);
    case 'number':
      return decodeNumber(field, value, place);
    case 'bool':
      return decodeBool(value, place);
    case 'list(string)':
      return decodeTexts(value, place);
    case 'list(map(number))':
      return decodeMaps(value, place, (item, inner) => decodeNumber(field, item, inner));
    case 'list(map(string))':
      return decodeMaps(value, place, (item, inner) => decodeText(field, item, inner));
    default:
      return field.type satisfies never;
  }
}

const empty = {
  string: '',
  number: 0,
  bool: false,
  'list(string)': [],
  'list(map(number))': [],
  'list(map(string))': [],
} as const;

function decodeText(field: AttrField, value: CtyValue, place: Place): string {
  if (typeof value !== 'string') {
    report(place, field.secret ? 'must be text' : `must be text, not ${kindOf(value)}`);
    return '';
  }
  if (value.includes('\0')) report(place, 'must not hold a NUL');
  if (field.oneOf && !field.oneOf.includes(value)) {
    report(place, `must be one of ${field.oneOf.join(', ')}, not ${quoted(value)}`);
  }
  return value;
}

/** Of JavaScript's numbers, which are exact up to there. */
const maxInteger = Number.MAX_SAFE_INTEGER;

function decodeNumber(field: AttrField, value: CtyValue, place: Place): number {
  const { min = -maxInteger, max = maxInteger } = field;
  const number = toNumber(value);
  if (number === undefined) report(place, `must be a number, not ${kindOf(value)}`);
  else if (!Number.isInteger(number)) report(place, `must be a whole number, not ${number}`);
  else if (number < min) report(place, `must be at least ${min}, not ${number}`);
  else if (number > max) report(place, `must be at most ${max}, not ${number}`);
  return number ?? 0;
}

function decodeBool(value: CtyValue, place: Place): boolean {
  if (typeof value === 'boolean') return value;
  report(place, `must be true or false, not ${kindOf(value)}`);
  return false;
}

function decodeTexts(value: CtyValue, place: Place): readonly string[] {
  if (!isList(value)) {
    report(place, `must be a list, not ${kindOf(value)}`);
    return [];
  }
  return value.map((item, index) => {
    const inner = { ...place, path: `${place.path}[${index}]` };
    if (typeof item === 'string' && !item.includes('\0')) return item;
    report(
      inner,
      typeof item === 'string' ? 'must not hold a NUL' : `must be text, not ${kindOf(item)}`,
    );
    return '';
  });
}

/** Blocks with names for keys: `port_map { http = 80 }`. */
function decodeMaps<T>(
  value: CtyValue,
  place: Place,
  decode: (item: CtyValue, place: Place) => T,
): readonly Readonly<Record<string, T>>[] {
  return (isList(value) ? value : [value]).map((item) => {
    if (!isMap(item)) report(place, `must be a block of names and values, not ${kindOf(item)}`);
    const entries = isMap(item) ? Object.entries(item) : [];
    return Object.fromEntries(
      entries.map(([name, inner]) => [
        name,
        decode(inner, { ...place, path: `${place.path}.${name}` }),
      ]),
    );
  });
}

function kindOf(value: CtyValue): string {
  if (value === null) return 'null';
  if (isList(value)) return 'a list';
  if (isMap(value)) return 'a block';
  if (typeof value === 'string') return `the text ${quoted(value)}`;
  return `the ${typeof value === 'boolean' ? 'bool' : 'number'} ${value}`;
}

function report(place: Place, text: string): void {
  place.problems.push({ path: place.path, text });
}
