/** Plain data as it goes into a seed file. */
export type Plain =
  | string
  | number
  | boolean
  | readonly Plain[]
  | { readonly [key: string]: Plain };

// JSON that every YAML reader reads as the same data needs more escapes than JSON.stringify writes. PyYAML, which
// cloud-init uses, refuses DEL, C1 controls, U+FFFE and U+FFFF as they are; YAML 1.1 folds U+0085, U+2028 and U+2029
// like line breaks; \u escapes avoid both. Characters above U+FFFF must not be escaped: PyYAML turns an escaped
// surrogate pair into two lone surrogates.
const escaped = /[\u007f-\ud7ff\ue000-\uffff]/g;

/** JSON text that is YAML 1.1 and 1.2 as well, with the same meaning in each. */
export function formatJsonYaml(value: Plain): string {
  const json = JSON.stringify(value, undefined, 2);
  return json.replace(
    escaped,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
