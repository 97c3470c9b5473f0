/** A chain of other programs, as `nft list ruleset` prints it. */
export interface ListedChain {
  readonly family: Family;
  /** Family and name. */
  readonly table: string;
  readonly name: string;
  /** The first one is the hook's, of a chain that has one. */
  readonly rules: readonly string[];
}

/** Of tables whose chains IPv4 packets pass, IPv6 ones, both, or frames of bridges. */
export type Family = 'ip' | 'ip6' | 'inet' | 'bridge';

const families: readonly string[] = ['ip', 'ip6', 'inet', 'bridge'] satisfies readonly Family[];

/** Tables of this driver, also of other agents. */
export const driverTable = /^nomad_driver_qmp_/;

/** Output of `nft list ruleset` → the chains that packets of guests may pass, but for those of this driver. */
export function parseChains(text: string): readonly ListedChain[] {
  return text.split(/^table /m).flatMap((part) => {
    const [, family = '', name = ''] = /^(\S+) (\S+)/.exec(part) ?? [];
    if (!isFamily(family) || driverTable.test(name)) return [];
    const chains = part.matchAll(/^\tchain (\S+) \{\n(.*?)^\t\}/gms);
    return [...chains].map(([, chain = '', body = '']) => {
      const rules = body.split('\n').map((line) => line.trim());
      return { family, table: `${family} ${name}`, name: chain, rules };
    });
  });
}

/** Output of `nft list set` or `nft list map` → its elements. */
export function readElements(text: string): readonly string[] {
  const bare = text.replaceAll(/ comment "[^"]*"/g, '');
  const [, list = ''] = /\belements = \{([^}]*)\}/.exec(bare) ?? [];
  return list
    .split(',')
    .map((element) => element.trim())
    .filter((element) => element !== '');
}

function isFamily(text: string): text is Family {
  return families.includes(text);
}
