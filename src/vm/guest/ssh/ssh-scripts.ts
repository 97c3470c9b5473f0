import type { Program } from '../scripts.ts';

// One line without quotes of its own, for login shells that are no POSIX shells.
const loader = `
if [ -t 0 ]; then stty raw -echo || exit 125; fi
printf "\\036%s@0;" "$1"
[ -t 2 ] || printf "\\036%s@0;" "$1" >&2
n=$(printf "\\nx"); n=\${n%x}; a=
while IFS= read -r l || exit 125; [ "$l" != "$1" ]; do a=$a$l$n; done
eval "$a"
`
  .trim()
  .replaceAll('\n', '; ');

/**
 * The command that sshd runs: it reports that it has begun, and becomes the program that it reads. Arguments and environment of that come through its input, because sshd takes no environment, and because
 * every user of the guest can see a command line.
 */
export function loaderCommand(session: string): string {
  return `exec /bin/sh -c '${loader}' nomad-exec ${session}`;
}

const shellName = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** A program as the loader reads it. Variables whose names no shell takes are left out. */
export function loaded(session: string, { path, arg, env }: Program): string {
  const exports = env.flatMap((variable) => {
    const at = variable.indexOf('=');
    const name = variable.slice(0, at);
    return shellName.test(name) ? [`export ${name}=${word(variable.slice(at + 1))}`] : [];
  });
  const command = ['exec', ...[path, ...arg].map(word)].join(' ');
  return `${[...exports, command, session].join('\n')}\n`;
}

function word(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
