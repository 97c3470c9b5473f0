import { type UserData, userDataText } from './user-data-text.ts';

// The key by which Ignition knows its configuration, first or after others.
const mark = /^\s*\{\s*"ignition"\s*:\s*\{|^\s*\{[\s\S]*"ignition"\s*:\s*\{\s*"version"\s*:/;

export function looksLikeIgnition(text: string): boolean {
  return mark.test(text);
}

/** Why Ignition would refuse the text, a sentence each. */
export function ignitionProblems(text: string): readonly string[] {
  const config = parse(text);
  if (config instanceof Error) return [`it is no valid JSON for Ignition: ${config.message}`];
  return typeof versionOf(config) === 'string'
    ? []
    : ['Ignition requires a version: { "ignition": { "version": "3.4.0" } }'];
}

/** The text of an Ignition configuration, unpacked; undefined for other user data. */
export function ignitionText(userData: UserData): string | undefined {
  const read = userDataText(userData);
  if ('problem' in read || !looksLikeIgnition(read.text)) return undefined;
  return ignitionProblems(read.text).length === 0 ? read.text : undefined;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function versionOf(config: unknown): unknown {
  const { ignition } = { ignition: undefined, ...Object(config) };
  return Object(ignition).version;
}
