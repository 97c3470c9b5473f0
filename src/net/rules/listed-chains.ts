/** A chain of other programs, as `nft list ruleset` prints it. */
export interface ListedChain {
  /** Family and name. */
  readonly table: string;
  readonly name: string;
  /** The first one is the hook's, of a chain that has one. */
  readonly rules: readonly string[];
}

/** Tables of this driver, also of other agents. */
export const driverTable = /^nomad_driver_qmp_/;

/** Output of `nft list ruleset` → the chains that IPv4 packets pass, but for those of this driver. */
export function parseChains(text: string): readonly ListedChain[] {
  return text.split(/^table /m).flatMap((part) => {
    const [, family = '', name = ''] = /^(\S+) (\S+)/.exec(part) ?? [];
    if (!/^(ip|inet)$/.test(family) || driverTable.test(name)) return [];
    const chains = part.matchAll(/^\tchain (\S+) \{\n(.*?)^\t\}/gms);
    return [...chains].map(([, chain = '', body = '']) => {
      const rules = body.split('\n').map((line) => line.trim());
      return { table: `${family} ${name}`, name: chain, rules };
    });
  });
}
