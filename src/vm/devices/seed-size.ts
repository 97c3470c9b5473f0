import type { GuestSpec } from '#spec';

/** What a job may put into a guest's seed beside user data. The seed lies in memory that no task's limit counts. */
export const mostGuestBytes = 1024 * 1024;

/** Each takes its time where all VMs share one thread, however short it is. */
export const mostItems = 10_000;

const remedy = 'hand larger data over in a file of a shared directory, or let the guest fetch it';

/** Bytes of everything the job puts into the seed beside user data, by the keys of its configuration. */
export function guestBytes(guest: GuestSpec): Readonly<Record<string, number>> {
  return {
    env: sum(Object.entries(guest.env).flat()),
    cmds: sum(guest.commands),
    default_user_authorized_ssh_key: sum([guest.authorizedKey ?? '']),
    default_user_password: sum([guest.password ?? '']),
  };
}

/** Whether it is too much, in sentences that name the keys, those with the largest part first. */
export function sizeProblems(guest: GuestSpec): readonly string[] {
  const counts = { env: Object.keys(guest.env).length, cmds: guest.commands.length };
  const tooMany = Object.entries(counts).filter(([, count]) => count > mostItems);
  if (tooMany.length > 0)
    return tooMany.map(
      ([key, count]) => `${key}: ${count} entries, at most ${mostItems} fit; ${remedy}`,
    );
  const parts = Object.entries(guestBytes(guest)).toSorted(([, a], [, b]) => b - a);
  const bytes = parts.reduce((total, [, size]) => total + size, 0);
  if (bytes <= mostGuestBytes) return [];
  const named = parts
    .filter(([, size]) => size > bytes / 20)
    .map(([key, size]) => `${key} (${size})`);
  return [
    `${named.join(' and ')}: ${bytes} bytes for the guest's seed, at most ${mostGuestBytes} fit; ${remedy}`,
  ];
}

// Two more for each text: what separates it from the next.
function sum(texts: readonly string[]): number {
  return texts.reduce((total, it) => total + Buffer.byteLength(it) + 2, 0);
}
