/**
 * Maximum of elements in a set that packets add to; every guest has a few addresses. The kernel allocates the buckets for
 * all of them at once: at nft's own 65535 the sets of an agent take 21 MiB, and up to 100 ms to make.
 */
export const maxDynamic = 16_384;

/**
 * A set of rates, one for each tap or address that has sent of late. Those of VMs that are gone end: the kernel takes no new
 * element into a full set, and the rule then lets everything pass. Each bucket is full again by then.
 */
export function rateSet(name: string, type: string): string {
  return `  set ${name} {
    type ${type}; size ${maxDynamic}; flags dynamic,timeout; timeout 1m
  }`;
}

/** One set or map of an nftables table, with its elements, each of them once. */
export function set(name: string, type: string, elements: readonly string[]): string {
  const each = [...new Set(elements)];
  const list =
    each.length === 0 ? '' : `\n    elements = {\n      ${each.join(',\n      ')}\n    }`;
  return `  ${name} {\n    type ${type}${list}\n  }`;
}
