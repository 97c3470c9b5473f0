import { createHash } from 'node:crypto';
import { type NetlinkSocket, setElements } from '#netlink';
import type { Waiting } from '#spec';
import { list, type Nft } from './run-nft.ts';
import { isTrackingTable, withoutMaximum } from './tracking.ts';

/** What is asked about tables: nft about rules, and the kernel about elements, which may be thousands. */
export interface TableAccess extends Nft {
  /** Of the netfilter family, in the same namespace. */
  readonly netfilter: NetlinkSocket;
}

const chain = /^\tchain \S+ \{\n(.*?)^\t\}$/gms;
const hook = /^\t\ttype .*\n/m;

/**
 * What tables, such as `inet x`, hold: a text that is another one where a rule is, or an element that no packet adds.
 * Undefined where a table was deleted, or a chain in it emptied. Throws NetError.
 */
export async function tableState(
  tables: readonly string[],
  access: TableAccess,
  waiting: Waiting,
): Promise<string | undefined> {
  const rules = await rulesIn(tables, access, waiting);
  if (rules === undefined) return undefined;
  const states: unknown[] = [];
  for (const [index, table] of tables.entries()) {
    const own = rules[index] ?? [];
    // Of two plugins with one data_dir each has its own maximum in there.
    const lines = isTrackingTable(table) ? withoutMaximum(own) : own;
    states.push(lines, await elementsOf(table, access, waiting));
  }
  return createHash('sha256').update(JSON.stringify(states)).digest('hex');
}

/**
 * The chains of tables line by line, in whichever order rules were inserted. Undefined where a table was deleted, or a chain
 * in it emptied, as `nft flush table` does. Throws NetError.
 */
export async function rulesIn(
  tables: readonly string[],
  nft: Nft,
  waiting: Waiting,
): Promise<readonly (readonly string[])[] | undefined> {
  const present = (await list('tables', ['tables'], nft, waiting)).split('\n');
  if (tables.some((table) => !present.includes(`table ${table}`))) return undefined;
  const found: RegExpExecArray[][] = [];
  // One run each: nft 1.0.6 finds only the last one when it lists several in one run. And one after the other: each program
  // holds the event loop until it is executed, on a busy host for tens of milliseconds.
  for (const table of tables) {
    const text = await list('a table', ['table', ...table.split(' ')], nft, waiting);
    found.push([...text.matchAll(chain)]);
  }
  // Every chain that the driver makes has a rule; the line of its hook is none.
  if (found.flat().some(([, lines = '']) => lines.replace(hook, '') === '')) return undefined;
  return found.map((chains) => chains.flatMap(([whole]) => whole.split('\n')).toSorted());
}

async function elementsOf(
  table: string,
  { netfilter }: TableAccess,
  waiting: Waiting,
): Promise<readonly unknown[]> {
  const [family = '', name = ''] = table.split(' ');
  const sets = await setElements(netfilter, { family, table: name }, waiting);
  return [...sets].toSorted(([one], [other]) => (one < other ? -1 : 1));
}
