/** What the image room's refusals have in common with `code`, and what tells them apart: the message. */
function refused(message: RegExp): { readonly code: 'refused'; readonly message: RegExp } {
  return { code: 'refused', message };
}

/** Which of these a refusal is, as in 'not-allowed'. */
export function kindOfRefusal({ message }: { readonly message: string }): string {
  const kinds = { 'not-allowed': notAllowed, 'not-found': notFound, 'not-regular': notRegular };
  const found = Object.entries(kinds).find(([, refusal]) => refusal.message.test(message));
  return found?.[0] ?? message;
}

export const notAllowed = refused(
  /is not inside the allowed directories|is in the directory of another task|names \(hard links\)/,
);
export const notFound = refused(/there is no file|no file is named|disappeared while/);
export const notRegular = refused(/not a regular file/);
export const tooLarge = refused(/is larger than|more than the \d+ asked for|more than qcow2 can/);
