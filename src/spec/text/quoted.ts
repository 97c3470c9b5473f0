const maxLength = 100;
const maxItems = 10;

/** A text of a user as a message shows it: in double quotes with escapes, and only the beginning of a long one. */
export function quoted(text: string): string {
  return JSON.stringify(shortened(text));
}

/** Names of a user as a message lists them: `a, b and 7 more`. */
export function listed(names: readonly string[]): string {
  const shown = names.slice(0, maxItems).map(shortened).join(', ');
  return names.length <= maxItems ? shown : `${shown} and ${names.length - maxItems} more`;
}

function shortened(name: string): string {
  return name.length <= maxLength ? name : `${name.slice(0, maxLength)}…`;
}
