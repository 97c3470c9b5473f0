import type { Waiting } from '#spec';
import { readSysctl } from '../model/sysctl.ts';
import type { WarnOnce } from '../model/warn-once.ts';
import { findForwardFilters } from './forward-filters.ts';
import type { Rules } from './nft.ts';

const maxNamed = 8;

/**
 * Finds other firewall rules that drop guests' packets, such as Docker's: a packet must pass every table, so no rule of
 * ours can override them.
 */
export class Firewall {
  readonly #rules: Rules;
  readonly #warnOnce: WarnOnce;
  readonly #checked = new Set<string>();

  constructor(rules: Rules, warnOnce: WarnOnce) {
    this.#rules = rules;
    this.#warnOnce = warnOnce;
  }

  /**
   * Notes about a bridge; [] when no rule drops its packets. A bridge without such rules is not checked again by this
   * process; others are reported for each VM, until the rules are corrected. Never fails.
   */
  async notes(bridge: string, waiting: Waiting): Promise<readonly string[]> {
    if (this.#checked.has(bridge)) return [];
    try {
      const chains = findForwardFilters(await this.#rules.list(waiting), bridge);
      if (chains.length > 0) return [this.#report(bridge, chains)];
      this.#checked.add(bridge);
      return [];
    } catch (error) {
      // A listing that takes too long or is too large is not repeated for each VM.
      if (!waiting.signal.aborted) this.#checked.add(bridge);
      this.#warnOnce.warn('other firewall rules could not be read', { bridge, error });
      return [];
    }
  }

  /** The same for a bridge whose packets the host does not route: they pass its rules with br_netfilter only. */
  async notesOfBridged(bridge: string, waiting: Waiting): Promise<readonly string[]> {
    if (readSysctl('net/bridge/bridge-nf-call-iptables') !== '1') return [];
    return this.notes(bridge, waiting);
  }

  #report(bridge: string, all: readonly string[]): string {
    const more = all.length - maxNamed;
    const chains = [...all.slice(0, maxNamed), ...(more > 0 ? [`${more} more`] : [])];
    const advice = `let them accept what comes from and goes to ${bridge}`;
    this.#warnOnce.warn('other firewall rules drop forwarded packets', { bridge, chains, advice });
    return `Firewall rules of this host may drop packets of bridge ${bridge}: ${chains.join(', ')}`;
  }
}
