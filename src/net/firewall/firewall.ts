import type { Waiting } from '#spec';
import { readSysctl } from '../model/sysctl.ts';
import type { WarnOnce } from '../model/warn-once.ts';
import { parseChains } from '../rules/listed-chains.ts';
import type { Rules } from '../rules/nft.ts';
import { type ForeignFilter, findForeignFilters, type Met } from './foreign-filters.ts';
import { type LegacyRules, LegacyTables } from './legacy-tables.ts';

const maxNamed = 8;

/** The guests of a bridge. */
export interface BridgeGuests extends Pick<Met, 'bridge' | 'isServed' | 'subnets'> {
  readonly hasIpv6: boolean;
  /** The host routes for them. */
  readonly isManaged: boolean;
}

/**
 * Finds other firewall rules that drop guests' packets, such as Docker's: a packet must pass every table, so no rule of
 * ours can override them.
 */
export class Firewall {
  readonly #rules: Rules;
  readonly #warnOnce: WarnOnce;
  readonly #legacy = new LegacyTables();
  /** What was found for guests of a bridge, and at which state of the host's other rules. */
  readonly #found = new Map<
    string,
    { readonly state: string; readonly note: string | undefined }
  >();
  /** Bridge → the VMs in it → the note that each has. */
  readonly #notes = new Map<string, ReadonlyMap<string, string | undefined>>();

  constructor(rules: Rules, warnOnce: WarnOnce) {
    this.#rules = rules;
    this.#warnOnce = warnOnce;
  }

  /** Notes for a VM that starts; [] when no rule drops its packets. Never fails. */
  async notes(guests: BridgeGuests, vm: string, waiting: Waiting): Promise<readonly string[]> {
    const note = await this.#note(guests, waiting);
    const { bridge } = guests;
    this.#notes.set(bridge, new Map(this.#notes.get(bridge)).set(vm, note));
    return note === undefined ? [] : [note];
  }

  /** The note that some of the running VMs of a bridge do not have yet, if any, and these VMs. Never fails. */
  async news(
    guests: BridgeGuests,
    vms: readonly string[],
    waiting: Waiting,
  ): Promise<{ readonly note: string; readonly vms: readonly string[] } | undefined> {
    const note = await this.#note(guests, waiting);
    const former = this.#notes.get(guests.bridge);
    this.#notes.set(guests.bridge, new Map(vms.map((vm) => [vm, note])));
    return note === undefined
      ? undefined
      : { note, vms: vms.filter((vm) => former?.get(vm) !== note) };
  }

  /** A bridge is not checked again until another program changes rules. */
  async #note(guests: BridgeGuests, waiting: Waiting): Promise<string | undefined> {
    const { bridge } = guests;
    const met = metBy(guests);
    const legacy = await this.#readLegacy(bridge, waiting);
    const state = `${await this.#rules.stateOfOthers(waiting)} ${legacy.state}`;
    const key = JSON.stringify(met);
    const known = this.#found.get(key);
    if (known?.state === state) return known.note;
    try {
      const chains = [...parseChains(await this.#rules.list(waiting)), ...legacy.chains];
      const filters = findForeignFilters(chains, met);
      const note = filters.length === 0 ? undefined : this.#report(bridge, filters);
      this.#found.set(key, { state, note });
      return note;
    } catch (error) {
      // A listing that takes too long or is too large is not repeated for each VM.
      if (!waiting.signal.aborted) this.#found.set(key, { state, note: undefined });
      this.#warnOnce.warn('other firewall rules could not be read', { bridge, error });
      return undefined;
    }
  }

  async #readLegacy(bridge: string, waiting: Waiting): Promise<LegacyRules> {
    try {
      return await this.#legacy.read(waiting);
    } catch (error) {
      this.#warnOnce.warn('legacy firewall rules could not be read', { bridge, error });
      return { state: -1, chains: [] };
    }
  }

  #report(bridge: string, all: readonly ForeignFilter[]): string {
    const named = all.slice(0, maxNamed);
    const more = all.length - named.length;
    const chains = [...named.map(({ chain }) => chain), ...(more > 0 ? [`${more} more`] : [])];
    const advice = [...new Set(named.map(({ remedy }) => remedy))].join('; ');
    this.#warnOnce.warn('other firewall rules drop packets of guests', { bridge, chains, advice });
    const what = `Firewall rules of this host may drop packets of bridge ${bridge}`;
    return `${what}: ${chains.join(', ')}. To let them pass: ${advice}`;
  }
}

/** What is not routed passes the host's rules for IP with br_netfilter only. */
function metBy({ hasIpv6, isManaged, ...guests }: BridgeGuests): Met {
  if (isManaged) return { ...guests, ipv4: true, ipv6: hasIpv6 };
  const isCalled = (program: string): boolean =>
    readSysctl(`net/bridge/bridge-nf-call-${program}`) === '1';
  return { ...guests, ipv4: isCalled('iptables'), ipv6: isCalled('ip6tables') };
}
