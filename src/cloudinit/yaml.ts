import { isMap, isSeq, LineCounter, parseDocument, visit } from 'yaml';

export interface YamlShape {
  readonly kind: 'mapping' | 'list' | 'empty' | 'scalar';
  /** `line 3: …`; empty when the text is well-formed. */
  readonly problems: readonly string[];
}

/**
 * What YAML a text is, without building its values. `firstLine` is the number of the text's first line in the
 * document the reader has before them.
 */
export function yamlShape(text: string, firstLine = 1): YamlShape {
  const lines = new LineCounter();
  // cloud-init reads YAML 1.1 and takes the last of two equal keys.
  const document = parseDocument(text, {
    version: '1.1',
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: false,
    logLevel: 'error',
  });
  const place = (offset: number): string => `line ${lines.linePos(offset).line + firstLine - 1}`;
  const problems = [
    ...document.errors.map((it) => `${place(it.pos[0])}: ${it.message}`),
    // A tag its loader does not know is an error to cloud-init.
    ...document.warnings
      .filter((it) => it.code === 'TAG_RESOLVE_FAILED')
      .map((it) => `${place(it.pos[0])}: ${it.message}`),
  ];
  visit(document, {
    Alias: (_, node) => {
      if (node.resolve(document) !== undefined) return;
      problems.push(`${place(node.range?.[0] ?? 0)}: unknown anchor *${node.source}`);
    },
  });
  return { kind: kindOf(document.contents), problems };
}

function kindOf(contents: unknown): YamlShape['kind'] {
  if (isMap(contents)) return 'mapping';
  if (isSeq(contents)) return 'list';
  if (contents === null) return 'empty';
  return typeof contents === 'object' && 'value' in contents && contents.value === null
    ? 'empty'
    : 'scalar';
}
