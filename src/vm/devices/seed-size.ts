import type { GuestSpec } from '#spec';

/**
 * Maximum that a job may put into a guest's seed beside user data. The seed is in memory that counts for no task's
 * limit.
 */
export const maxGuestBytes = 1024 * 1024;

/** Maximum of variables and of commands: even short ones take time on the thread that all VMs share. */
export const maxItems = 10_000;

const remedy = 'pass larger data in a file of a shared directory, or let the guest fetch it';

/** Bytes of everything the job puts into the seed beside user data, by the keys of its configuration. */
export function guestBytes(guest: GuestSpec): Readonly<Record<string, number>> {
  return {
    env: sum(Object.entries(guest.env).flat()),
    cmds: sum(guest.commands),
    meta_data: sum(Object.entries(guest.metaData ?? {}).flat()),
    default_user_authorized_ssh_key: sum([guest.authorizedKey ?? '']),
    default_user_password: sum([guest.password ?? '']),
  };
}

/** Problems with the size, in sentences that name the keys, the largest first; [] when it fits. */
export function sizeProblems(guest: GuestSpec): readonly string[] {
  const counts = {
    env: Object.keys(guest.env).length,
    cmds: guest.commands.length,
    meta_data: Object.keys(guest.metaData ?? {}).length,
  };
  const tooMany = Object.entries(counts).filter(([, count]) => count > maxItems);
  if (tooMany.length > 0)
    return tooMany.map(
      ([key, count]) => `${key}: ${count} entries, the maximum is ${maxItems}; ${remedy}`,
    );
  const parts = Object.entries(guestBytes(guest)).toSorted(([, a], [, b]) => b - a);
  const bytes = parts.reduce((total, [, size]) => total + size, 0);
  if (bytes <= maxGuestBytes) return [];
  const named = parts
    .filter(([, size]) => size > bytes / 20)
    .map(([key, size]) => `${key} (${size})`);
  return [
    `${named.join(' and ')}: ${bytes} bytes for the guest's seed, the maximum is ${maxGuestBytes}; ${remedy}`,
  ];
}

// Two more for each text: its separators.
function sum(texts: readonly string[]): number {
  return texts.reduce((total, text) => total + Buffer.byteLength(text) + 2, 0);
}
