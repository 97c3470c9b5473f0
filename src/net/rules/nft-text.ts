/** One set or map of an nftables table, with its elements. */
export function set(name: string, type: string, elements: readonly string[]): string {
  const list =
    elements.length === 0 ? '' : `\n    elements = {\n      ${elements.join(',\n      ')}\n    }`;
  return `  ${name} {\n    type ${type}${list}\n  }`;
}
