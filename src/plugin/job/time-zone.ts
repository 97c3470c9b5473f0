/** Names that ICU accepts beside the tz database: abbreviations of old Java and a name that was dropped there. */
const icuOnly = new Set(
  `ACT AET AGT ART AST BET BST CAT CNT CST CTT EAT ECT IET IST JST MIT NET NST PLT PNT PRT PST SST VST
  US/Pacific-New`.split(/\s+/),
);

/** The longest has 32. */
const maxLength = 64;

/**
 * Whether this is a name from the tz database, which Node's ICU contains. Guests open a file of that name, so its case counts,
 * which ICU ignores.
 */
export function isTimeZone(name: string): boolean {
  if (name.length > maxLength) return false;
  if (!/^[A-Z][\w+-]*(\/[A-Z][\w+-]*)*$/.test(name)) return false;
  if (icuOnly.has(name) || name.startsWith('SystemV/')) return false;
  const known = canonicalName(name);
  // The case of an alias can't be compared: ICU returns the zone that it stands for.
  return known !== undefined && (known === name || known.toLowerCase() !== name.toLowerCase());
}

function canonicalName(name: string): string | undefined {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}
