import { DEFAULT_SCHEMA, load, Type, YAMLException } from 'js-yaml';

export interface YamlShape {
  readonly kind: 'mapping' | 'list' | 'empty' | 'scalar';
  /** Where it begins. */
  readonly line: number;
  /** `line 3: …`; empty when the text can be read. */
  readonly problems: readonly string[];
}

/** Each merge copies what it merges: without a limit one MiB would keep this process busy for minutes. */
const mostMerges = 1000;

// cloud-init's own loader knows one tag more than YAML has.
const schema = DEFAULT_SCHEMA.extend(
  new Type('tag:yaml.org,2002:python/unicode', { kind: 'scalar' }),
);

/**
 * What YAML a text is. js-yaml is a port of PyYAML, which cloud-init reads with: what it refuses cloud-init refuses,
 * and would then leave out the whole text. Of what PyYAML refuses it lets a few oddities pass. `firstLine` is the number
 * of the text's first line in what the reader has before them.
 */
export function yamlShape(text: string, firstLine = 1): YamlShape {
  const line = firstLine + Math.max(0, text.split(/\r\n|[\r\n]/).findIndex(isContent));
  const wrong = (problem: string): YamlShape => ({ kind: 'scalar', line, problems: [problem] });
  if (text.split('<<', mostMerges + 2).length > mostMerges + 1) {
    return wrong(`line ${line}: more than ${mostMerges} merges (<<)`);
  }
  try {
    // cloud-init takes the last of two equal keys, as JSON does.
    const value = load(text, { schema, json: true });
    if (hasCollectionAsKey(value)) {
      return wrong(`line ${line}: a mapping is used as a key; quote what stands in {{ }}`);
    }
    return { kind: kindOf(value), line, problems: [] };
  } catch (error) {
    if (error instanceof RangeError) return wrong(`line ${line}: it nests too deep`);
    if (!(error instanceof YAMLException)) throw error;
    const at = error.mark === undefined ? line : firstLine + error.mark.line;
    return wrong(`line ${at}: ${plainTags(error.reason).slice(0, 200)}`);
  }
}

/** Tags as people write them. */
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

/** js-yaml makes text of such a key, where PyYAML gives up. By aliases a value may be in many places, or in itself. */
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
