import { quoted } from '#spec';

/** Why a text can't be the serial number of a disk; undefined when it can. */
export function serialProblem(text: string): string | undefined {
  if (/^[A-Za-z0-9_.-]{1,20}$/.test(text)) return undefined;
  const rule = 'at most 20 letters, digits, dots, dashes and underscores';
  return `${quoted(text)} is not a serial number (${rule})`;
}
