import type { Waiting } from '#spec';
import { driverTable, readElements } from './listed-chains.ts';
import { findPublished, readPublishedMap, setsOfPublished } from './published-elsewhere.ts';
import type { PublishedElsewhere } from './published-rule.ts';
import { publishedMaps } from './ruleset.ts';
import { listElements, type Nft } from './run-nft.ts';
import { isTrackingTable } from './tracking.ts';

/** Ports that rules of the host publish, but for those of the own table: of other programs, and in the maps of other agents. */
export async function readPublished(
  { table: own, rules }: { readonly table: string; readonly rules: string },
  nft: Nft,
  waiting: Waiting,
): Promise<readonly PublishedElsewhere[]> {
  const tables = [...rules.matchAll(/^table inet (\S+) \{\n(.*?)^\}/gms)];
  const maps = tables.flatMap(([, table = '', content = '']) => {
    if (!driverTable.test(table) || isTrackingTable(table) || table === own) return [];
    // Agents of earlier releases have not all of them.
    const names = publishedMaps.filter((map) => content.includes(`\tmap ${map} {`));
    return names.map((map) => ({ table, map }));
  });
  const lists = maps.map(async ({ table, map }) => {
    const text = await listElements(`map ${map}`, ['map', 'inet', table, map], nft, waiting);
    return readPublishedMap(text, `inet ${table} arriving`);
  });
  const [elements, ...agents] = await Promise.all([
    listAll(setsOfPublished(rules), nft, waiting),
    ...lists,
  ]);
  const others = findPublished(rules, (object) => elements.get(object) ?? []);
  return [...others, ...agents.flat()];
}

/** The elements of each of these sets and maps; one after the other, as each program that is started holds the event loop. */
async function listAll(
  objects: readonly string[],
  nft: Nft,
  waiting: Waiting,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const found = new Map<string, readonly string[]>();
  for (const object of objects) {
    const text = await listElements(`a ${object}`, object.split(' '), nft, waiting);
    found.set(object, readElements(text));
  }
  return found;
}
