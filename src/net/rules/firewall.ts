import type { Waiting } from '#spec';
import { readSysctl } from '../model/sysctl.ts';
import type { WarnOnce } from '../model/warn-once.ts';
import { type ForwardFilter, findForwardFilters } from './forward-filters.ts';
import type { Rules } from './nft.ts';

const maxNamed = 8;

interface Guests {
  readonly bridge: string;
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
  /** Bridge → the state of the host's other rules at which nothing was found, or could not be read. */
  readonly #checked = new Map<string, number>();

  constructor(rules: Rules, warnOnce: WarnOnce) {
    this.#rules = rules;
    this.#warnOnce = warnOnce;
  }

  /**
   * Notes about a bridge; [] when no rule drops its packets. A bridge without such rules is not checked again until another
   * program changes rules; others are reported for each VM, until the rules are corrected. Never fails.
   */
  async notes(guests: Guests, waiting: Waiting): Promise<readonly string[]> {
    const { bridge } = guests;
    const met = guests.isManaged ? guests : bridgedAs(guests);
    if (met === undefined) return [];
    const state = await this.#rules.stateOfOthers(waiting);
    if (this.#checked.get(bridge) === state) return [];
    try {
      const filters = findForwardFilters(await this.#rules.list(waiting), met);
      if (filters.length > 0) return [this.#report(bridge, filters)];
      this.#checked.set(bridge, state);
      return [];
    } catch (error) {
      // A listing that takes too long or is too large is not repeated for each VM.
      if (!waiting.signal.aborted) this.#checked.set(bridge, state);
      this.#warnOnce.warn('other firewall rules could not be read', { bridge, error });
      return [];
    }
  }

  #report(bridge: string, all: readonly ForwardFilter[]): string {
    const named = all.slice(0, maxNamed);
    const more = all.length - named.length;
    const chains = [...named.map(({ chain }) => chain), ...(more > 0 ? [`${more} more`] : [])];
    const advice = [...new Set(named.map(({ remedy }) => remedy))].join('; ');
    this.#warnOnce.warn('other firewall rules drop forwarded packets', { bridge, chains, advice });
    const what = `Firewall rules of this host may drop packets of bridge ${bridge}`;
    return `${what}: ${chains.join(', ')}. To let them pass: ${advice}`;
  }
}

/** What is not routed passes the host's rules with br_netfilter only. */
function bridgedAs({ bridge }: Guests): Omit<Guests, 'isManaged'> | undefined {
  if (readSysctl('net/bridge/bridge-nf-call-iptables') !== '1') return undefined;
  return { bridge, hasIpv6: readSysctl('net/bridge/bridge-nf-call-ip6tables') === '1' };
}
