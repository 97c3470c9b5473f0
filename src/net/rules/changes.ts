/** One script of rules, taken apart. */
interface Parts {
  /** All that is neither an element nor in a chain, with the names of the chains. */
  readonly frame: string;
  /** Each of them once, with a comma behind it, by the name of the set or map: family, table and name. */
  readonly elements: ReadonlyMap<string, string>;
  /** Rules, by the name of the chain: family, table and name. */
  readonly chains: ReadonlyMap<string, string>;
}

/**
 * The script that turns the tables of one script (as `formatRuleset` and `formatTracking` make them) into those of another:
 * elements are added and deleted, rules of new taps inserted, other chains filled anew. Empty where nothing differs; undefined where sets, chains or tables
 * themselves differ, or the elements of a set of ranges, which the kernel may hold in other pieces.
 */
export function changesOf(before: string, after: string): string | undefined {
  const [old, now] = [takeApart(before), takeApart(after)];
  if (old.frame !== now.frame) return undefined;
  const changes: string[] = [];
  for (const [name, list] of now.elements) {
    const former = old.elements.get(name) ?? '';
    if (list === former) continue;
    const [had, elements] = differing(former, list);
    const gone = [...had].filter((element) => !elements.has(element));
    const added = [...elements].filter((element) => !had.has(element));
    if (gone.length > 0) changes.push(`delete element ${name} { ${gone.join(', ')} }\n`);
    if (added.length > 0) changes.push(`add element ${name} { ${added.join(', ')} }\n`);
  }
  for (const [name, rules] of now.chains) {
    if (rules === old.chains.get(name)) continue;
    const inserted = newInHead(old.chains.get(name), rules);
    if (inserted !== undefined) {
      changes.push(...inserted.map((rule) => `insert rule ${name}${rule.slice(3)}\n`));
      continue;
    }
    const [family, table, chain] = name.split(' ');
    changes.push(`flush chain ${name}\n`);
    changes.push(`table ${family} ${table} {\n  chain ${chain} {\n${rules}  }\n}\n`);
  }
  return changes.join('');
}

/**
 * The rules that a chain has more than before, where they can be inserted before all others: rules of taps, which it
 * begins with, each of which matches what comes from its tap only. A rule is never deleted for that: the kernel then waits
 * 10 to 20 ms until no processor uses it, and so does the next one that changes rules.
 */
function newInHead(before: string | undefined, after: string): readonly string[] | undefined {
  if (before === undefined) return undefined;
  const [old, now] = [headOf(before), headOf(after)];
  const [known, wanted] = [new Set(old.rules), new Set(now.rules)];
  if (old.rest !== now.rest || old.rules.some((rule) => !wanted.has(rule))) return undefined;
  return now.rules.filter((rule) => !known.has(rule));
}

function headOf(rules: string): { readonly rules: readonly string[]; readonly rest: string } {
  const [head = ''] = /^(?: {4}iifname "\S+" .*\n)*/.exec(rules) ?? [];
  return { rules: head.split('\n').filter(Boolean), rest: rules.slice(head.length) };
}

/**
 * The elements of both lists without those that both begin and end with: a VM has its elements side by side, and all others
 * have thousands.
 */
function differing(
  before: string,
  after: string,
): readonly [before: ReadonlySet<string>, after: ReadonlySet<string>] {
  const shorter = Math.min(before.length, after.length);
  let same = 0;
  while (same < shorter && before.charCodeAt(same) === after.charCodeAt(same)) same += 1;
  // Up to the comma behind the last one that is the same.
  const begin = before.slice(0, same).lastIndexOf(',') + 1;
  let tail = 0;
  const code = (list: string) => list.charCodeAt(list.length - 1 - tail);
  while (tail < shorter - begin && code(before) === code(after)) tail += 1;
  const comma = before.indexOf(',', before.length - tail);
  const end = tail === 0 ? 0 : before.length - comma - 1;
  const rest = (list: string) => elementsIn(list.slice(begin, list.length - end));
  return [rest(before), rest(after)];
}

function elementsIn(list: string): ReadonlySet<string> {
  const elements = list.split(',').map((element) => element.trim());
  return new Set(elements.filter(Boolean));
}

function takeApart(script: string): Parts {
  const elements = new Map<string, string>();
  const chains = new Map<string, string>();
  const keep = (name: string, list: string): void => {
    elements.set(name, `${elements.get(name) ?? ''}${list},`);
  };
  const frame = script
    .replaceAll(/^table (\S+ \S+) \{\n(.*?)^\}\n/gms, (_, table: string, body: string) => {
      const rest = body
        .replaceAll(
          /^ {2}(?:set|map) (\S+) \{\n(.*?)^ {2}\}\n/gms,
          (whole, name: string, inner: string) => {
            const [type = '', list = ''] = inner.split('    elements = {\n');
            if (/flags interval/.test(type)) return whole;
            keep(`${table} ${name}`, list.replace(/\n {4}\}\n$/, ''));
            return `  set ${name}\n${type}`;
          },
        )
        .replaceAll(
          /^ {2}chain (\S+) \{\n(.*?)^ {2}\}\n/gms,
          (_chain, name: string, rules: string) => {
            chains.set(`${table} ${name}`, rules);
            return `  chain ${name}\n`;
          },
        );
      return `table ${table}\n${rest}`;
    })
    .replaceAll(/^add element (\S+ \S+ \S+) \{ (.*) \}\n/gm, (_, name: string, list: string) => {
      keep(name, list);
      return '';
    });
  return { frame, elements, chains };
}
