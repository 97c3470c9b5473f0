import type { Waiting } from '#host';
import { readSysctl } from '../model/sysctl.ts';
import type { WarnOnce } from '../model/warn-once.ts';
import { findForwardFilters } from './forward-filters.ts';
import type { Rules } from './nft.ts';

const mostNamed = 8;

/**
 * Looks whether other firewall rules stand in the way of guests, as Docker's do: a packet must pass every table, so no
 * rule of ours can let it through.
 */
export class Firewall {
  readonly #rules: Rules;
  readonly #warnOnce: WarnOnce;
  readonly #settled = new Set<string>();

  constructor(rules: Rules, warnOnce: WarnOnce) {
    this.#rules = rules;
    this.#warnOnce = warnOnce;
  }

  /**
   * What to say of a bridge; [] when nothing is in the way. A bridge that was fine once isn't looked at again by this
   * process; of others it is said for each VM, until it has been put right. Never fails.
   */
  async notes(bridge: string, waiting: Waiting): Promise<readonly string[]> {
    if (this.#settled.has(bridge)) return [];
    try {
      const chains = findForwardFilters(await this.#rules.list(waiting), bridge);
      if (chains.length > 0) return [this.#tell(bridge, chains)];
      this.#settled.add(bridge);
      return [];
    } catch (error) {
      // What takes too long or says too much is not tried for each VM.
      if (!waiting.signal.aborted) this.#settled.add(bridge);
      this.#warnOnce.warn('other firewall rules could not be read', { bridge, error });
      return [];
    }
  }

  /** The same for a bridge whose packets the host doesn't route: they come by its rules with br_netfilter only. */
  async notesOfBridged(bridge: string, waiting: Waiting): Promise<readonly string[]> {
    if (readSysctl('net/bridge/bridge-nf-call-iptables') !== '1') return [];
    return this.notes(bridge, waiting);
  }

  #tell(bridge: string, all: readonly string[]): string {
    const more = all.length - mostNamed;
    const chains = [...all.slice(0, mostNamed), ...(more > 0 ? [`${more} more`] : [])];
    const advice = `let them accept what comes from and goes to ${bridge}`;
    this.#warnOnce.warn('other firewall rules drop forwarded packets', { bridge, chains, advice });
    return `Firewall rules of this host may drop packets of bridge ${bridge}: ${chains.join(', ')}`;
  }
}
