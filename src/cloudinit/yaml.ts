import { DEFAULT_SCHEMA, load, Type, YAMLException } from 'js-yaml';
import { tabLine } from './yaml-tabs.ts';

export interface YamlShape {
  readonly kind: 'mapping' | 'list' | 'empty' | 'scalar';
  /** Where it begins. */
  readonly line: number;
  /** `line 3: …`; empty when the text can be read. */
  readonly problems: readonly string[];
}

/** Each merge copies what it merges: without a limit one MiB would keep this process busy for minutes. */
const maxMerges = 1000;

// cloud-init's own loader supports one tag beside those of YAML.
const schema = DEFAULT_SCHEMA.extend(
  new Type('tag:yaml.org,2002:python/unicode', { kind: 'scalar' }),
);

/**
 * The shape of a YAML text. js-yaml is a port of PyYAML, which cloud-init uses: what it refuses cloud-init refuses, and
 * would then ignore the whole text. A few oddities that PyYAML refuses it accepts. `firstLine` is the number of the
 * text's first line in the whole user data.
 */
export function yamlShape(text: string, firstLine = 1): YamlShape {
  const line = firstLine + Math.max(0, text.split(/\r\n|[\r\n]/).findIndex(isContent));
  const wrong = (problem: string): YamlShape => ({ kind: 'scalar', line, problems: [problem] });
  if (text.split('<<', maxMerges + 2).length > maxMerges + 1) {
    return wrong(`line ${line}: more than ${maxMerges} merges (<<)`);
  }
  try {
    // cloud-init takes the last of two equal keys, as JSON does.
    const value = load(text, { schema, json: true });
    if (hasCollectionAsKey(value)) {
      return wrong(`line ${line}: a mapping is used as a key; quote the text with {{ }}`);
    }
    const tab = text.includes('\t') ? tabLine(text) : undefined;
    if (tab !== undefined) {
      return wrong(`line ${firstLine + tab}: a tab outside of quotes; write spaces`);
    }
    return { kind: kindOf(value), line, problems: [] };
  } catch (error) {
    if (error instanceof RangeError) return wrong(`line ${line}: it is nested too deeply`);
    if (!(error instanceof YAMLException)) throw error;
    const at = error.mark === undefined ? line : firstLine + error.mark.line;
    return wrong(`line ${at}: ${plainTags(error.reason).slice(0, 200)}`);
  }
}

/** Tags in their short form. */
function plainTags(text: string): string {
  return text.replaceAll(/!<(?:tag:yaml\.org,2002:([^>]*)|([^>]*))>/g, (_, own, other) =>
    own === undefined ? other : `!!${own}`,
  );
}

function isContent(line: string): boolean {
  return !/^\s*(?:#.*)?$|^---\s*(?:#.*)?$/.test(line);
}

function kindOf(value: unknown): YamlShape['kind'] {
  if (value === null || value === undefined) return 'empty';
  if (Array.isArray(value)) return 'list';
  return typeof value === 'object' && !(value instanceof Date) ? 'mapping' : 'scalar';
}

/** js-yaml turns such a key into text, where PyYAML fails. By aliases a value may be in many places, or in itself. */
function hasCollectionAsKey(root: unknown): boolean {
  const seen = new Set<unknown>();
  const rest = [root];
  for (let value = rest.pop(); value !== undefined; value = rest.pop()) {
    if (typeof value !== 'object' || value === null || seen.has(value)) continue;
    seen.add(value);
    if (!Array.isArray(value) && Object.hasOwn(value, '[object Object]')) return true;
    for (const inner of Object.values(value)) if (typeof inner === 'object') rest.push(inner);
  }
  return false;
}
