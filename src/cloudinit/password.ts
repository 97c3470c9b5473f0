/** How a password reaches the guest, or what is wrong with its text as the end of a sentence. */
export type Password =
  | { readonly kind: 'clear' }
  /** A hash of crypt(5). `known`: cloud-init itself takes the text for one, where it is `password`. */
  | { readonly kind: 'hash'; readonly known: boolean }
  | { readonly kind: 'wrong'; readonly problem: string };

const alphabet = '[./0-9A-Za-z]';

/** Whole hashes by their prefix: crypt(5) of libxcrypt, which Linux distributions have. */
const forms: Readonly<Record<string, RegExp>> = {
  1: new RegExp(`^[^$:]{0,8}\\$${alphabet}{22}$`),
  5: new RegExp(`^(?:rounds=\\d{1,9}\\$)?[^$:]{1,16}\\$${alphabet}{43}$`),
  6: new RegExp(`^(?:rounds=\\d{1,9}\\$)?[^$:]{1,16}\\$${alphabet}{86}$`),
  '2a': new RegExp(`^\\d\\d\\$${alphabet}{53}$`),
  '2b': new RegExp(`^\\d\\d\\$${alphabet}{53}$`),
  '2y': new RegExp(`^\\d\\d\\$${alphabet}{53}$`),
  y: new RegExp(`^${alphabet}{1,20}\\$${alphabet}{1,86}\\$${alphabet}{43}$`),
};

/** What cc_set_passwords takes for a hash; any other text is clear to it. */
const knownPrefixes = ['1', '2a', '2y', '5', '6'];

/** Hashes of other programs (htpasswd, LDAP, web frameworks), which no login compares with. */
const foreign =
  /^(?:\$(?:apr1|argon2\w{1,2}|pbkdf2[\w-]{0,20}|scrypt|[HPS])\$|\{\w{1,20}\}[./+=0-9A-Za-z$]{16,}$)/;

const remedy = 'hash it with: mkpasswd -m sha-512';

/** Whether the text is a hash is up to its form: a whole hash is never meant to be typed in. */
export function readPassword(text: string): Password {
  const [, prefix = '', rest = ''] = /^\$(\w{1,2})\$(.*)$/.exec(text) ?? [];
  const form = Object.hasOwn(forms, prefix) ? forms[prefix] : undefined;
  if (form?.test(rest)) return { kind: 'hash', known: knownPrefixes.includes(prefix) };
  if (form !== undefined) {
    const problem = `begins like a hash ($${prefix}$) but is not a whole one: copy all of it, or ${remedy}`;
    return { kind: 'wrong', problem };
  }
  if (!foreign.test(text)) return { kind: 'clear' };
  return {
    kind: 'wrong',
    problem: `is a hash of a kind that no login in a guest takes: ${remedy}`,
  };
}
