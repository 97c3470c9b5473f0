/** What ICU knows beside the tz database: abbreviations of old Java and a name that was dropped there. */
const icuOnly = new Set(
  `ACT AET AGT ART AST BET BST CAT CNT CST CTT EAT ECT IET IST JST MIT NET NST PLT PNT PRT PST SST VST
  US/Pacific-New`.split(/\s+/),
);

/**
 * Is this a name from the tz database, as spelled there? Asked of Node's ICU, which has the database. Guests look for a file
 * of that name, so spelling counts, while ICU takes any.
 */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Z][\w+-]*(\/[A-Z][\w+-]*)*$/.test(name)) return false;
  if (icuOnly.has(name) || name.startsWith('SystemV/')) return false;
  const known = canonicalName(name);
  // An alias has no spelling to compare with: ICU answers with the zone it stands for.
  return known !== undefined && (known === name || known.toLowerCase() !== name.toLowerCase());
}

function canonicalName(name: string): string | undefined {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}
