import type { AgentCommands } from '#qmp';
import type { TerminalSize } from '../virtualizer.ts';

/**
 * What the guest agent is asked to run. Only what every Linux has is used: `sh`, `sleep`, `setsid`, for a terminal `stty`,
 * and `grep` to find the processes of a command again. The scripts are in the environment, because the agent writes its
 * arguments into the guest's log.
 */
export type Program = AgentCommands['guest-exec']['arguments'];

export interface CommandToRun {
  /** Unique: it names the ports, and marks every process of the command. */
  readonly session: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Runs as this user of the guest; as root when left out. */
  readonly user?: string;
  readonly terminal: boolean;
}

const shell = '/bin/sh';
const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Linux's console driver has this many. */
const terminals = [0, 1, 2, 3, 4, 5, 6, 7];
/** Where VMs of this release have a console for people, which is taken; in others it is used when there is no other. */
const console = 0;

// A subshell with exec: programs only, none of the shell's own functions and commands. The status comes last in each
// stream, so that all output is before it. By -c the su of util-linux takes the terminal away from the command: it begins a
// new session.
const run = (before = '') => `
unset NOMAD_EXEC_RUN
if [ -n "$NOMAD_EXEC_USER" ]; then
  case $(su --help 2>&1) in *--session-command*) option=--session-command;; *) option=-c;; esac
  set -- su -s /bin/sh $option 'unset NOMAD_EXEC_USER; exec "$@"' -- "$NOMAD_EXEC_USER" sh "$@"
else
  unset NOMAD_EXEC_USER
fi
(${before}exec "$@")
code=$?
`;

// What is typed has its meaning from here on: Ctrl-C and Ctrl-D are mere bytes to a terminal that is not set up, and Ctrl-C
// to the shell around the command.
const runInTerminal = run(`printf '\\036%s@0;' "$NOMAD_EXEC"; `);

const pause = 'tries=$((tries+1)); [ $tries -le 200 ] || exit 125; sleep 0.02 || sleep 1';

const streams = `
port() {
  tries=0
  while :; do
    for dir in /sys/class/virtio-ports/*; do
      name=
      read -r name <"$dir/name"
      place=/dev/\${dir##*/}
      [ "$name" = "exec.$NOMAD_EXEC.$1" ] && [ -c "$place" ] && return
    done
    ${pause}
  done
}
port in && exec <"$place"
port out && exec >"$place"
port err && exec 2>"$place"
printf '\\036%s@0;' "$NOMAD_EXEC"
tries=0
until read -r go; do ${pause}; done 2>/dev/null
unset -f port
${run()}
printf '\\036%s:%s;' "$NOMAD_EXEC" $code
printf '\\036%s:%s;' "$NOMAD_EXEC" $code >&2
exit $code
`;

// A terminal that is no longer there ends the read at once, another session's does not answer with this id.
const findTerminal = `
tries=0 found=
while [ -z "$found" ]; do
  for number in ${[...terminals.filter((it) => it !== console), console].join(' ')}; do
    place=/dev/hvc$number
    case " $NOMAD_EXEC_TAKEN " in *" $number "*) continue;; esac
    (: <>"$place") || continue
    exec 3<>"$place"
    stty raw -echo min 0 time 50 <&3
    printf '\\036%s@%s;' "$NOMAD_EXEC" $number >&3
    go= id= rows= columns=
    read -r go id rows columns <&3
    if [ "$id" = "$NOMAD_EXEC" ]; then found=1; break; fi
    exec 3>&-
  done
  [ -n "$found" ] || { ${pause}; }
done
stty sane rows "$rows" cols "$columns" <&3
unset NOMAD_EXEC_TAKEN
exec setsid -c /bin/sh -c 'eval "$NOMAD_EXEC_IN_TERMINAL"' nomad-exec "$@" <&3 >&3 2>&3 3>&-
`;

// Ctrl-C is for the command; a trap, unlike ignoring it, is not inherited.
const inTerminal = `
trap : INT QUIT
unset NOMAD_EXEC_IN_TERMINAL
${runInTerminal}
printf '\\036%s:%s;' "$NOMAD_EXEC" $code
exit $code
`;

// What one session's leader started is found by the mark in its environment, and by the session where it was changed.
// A process that was marked stays one when it has ended: others of its session may have neither mark nor leader then.
// It goes on while the guest shuts down, which waits for those that ignore SIGTERM.
const end = `
trap '' HUP TERM
marked=$NOMAD_ENDED_LEADER
processes() {
  for file in $(grep -ls "NOMAD_EXEC=$NOMAD_ENDED" /proc/[0-9]*/environ); do
    file=\${file#/proc/}
    marked="$marked \${file%/environ}"
  done
  all=
  for dir in /proc/[0-9]*; do
    read -r stat <"$dir/stat" || continue
    set -- \${stat##*) }
    [ "$1" = Z ] && continue
    case " $marked " in *" $4 "* | *" \${dir#/proc/} "*) all="$all \${dir#/proc/}";; esac
  done
  [ -n "$all" ]
}
processes || exit 0
kill -HUP $all
for try in 1 2 3 4 5; do
  processes || exit 0
  sleep 0.1 || sleep 1
done
for try in 1 2 3 4 5 6 7 8 9; do
  processes || exit 0
  kill -KILL $all
  sleep 0.1 || sleep 1
done
exit 1
`;

function script(text: string, env: Readonly<Record<string, string>>, args: readonly string[] = []) {
  const all = { PATH: path, ...env, NOMAD_EXEC_RUN: text };
  return {
    path: shell,
    arg: ['-c', 'eval "$NOMAD_EXEC_RUN"', 'nomad-exec', ...args],
    env: Object.entries(all).map(([name, value]) => `${name}=${value}`),
  };
}

/** Runs a command whose streams are the ports, or the console, of its session. */
export function commandProgram(
  { session, command, env, user = '', terminal }: CommandToRun,
  takenTerminals: readonly number[],
): Program {
  const own = { HOME: '/root', ...env, NOMAD_EXEC: session, NOMAD_EXEC_USER: user };
  if (!terminal) {
    // A session of its own: a command that signals its process group must not hit the agent.
    const begun = 'exec setsid /bin/sh -c \'eval "$NOMAD_EXEC_STREAMS"\' nomad-exec "$@"';
    return script(
      begun,
      { ...own, NOMAD_EXEC_STREAMS: `unset NOMAD_EXEC_STREAMS\n${streams}` },
      command,
    );
  }
  const taken = takenTerminals.join(' ');
  return script(
    findTerminal,
    { TERM: 'xterm', ...own, NOMAD_EXEC_TAKEN: taken, NOMAD_EXEC_IN_TERMINAL: inTerminal },
    command,
  );
}

// sshd has made the session, and the terminal.
const bySsh = (running: string) => `
${running}
printf '\\036%s:%s;' "$NOMAD_EXEC" $code
[ -t 2 ] || printf '\\036%s:%s;' "$NOMAD_EXEC" $code >&2
exit $code
`;

/** Runs a command whose streams, or whose terminal of this size, it has from the start. */
export function sshCommandProgram(
  { session, command, env, user = '', terminal }: CommandToRun,
  { rows, columns }: TerminalSize,
): Program {
  const own = { HOME: '/root', ...env, NOMAD_EXEC: session, NOMAD_EXEC_USER: user };
  if (!terminal) return script(bySsh(run()), own, command);
  const prepare = `stty sane rows ${rows} cols ${columns}\ntrap : INT QUIT\n`;
  return script(`${prepare}${bySsh(runInTerminal)}`, { TERM: 'xterm', ...own }, command);
}

/** The answer to a script that has found its terminal. */
export function terminalGreeting(session: string, { rows, columns }: TerminalSize): string {
  return `go ${session} ${rows} ${columns}\n`;
}

export const streamsGreeting = 'go\n';

/**
 * Ends every process of a command: with SIGHUP, after half a second with SIGKILL. `leader` is its first, where that is
 * known and has no mark.
 */
export function endProgram(session: string, leader?: number): Program {
  return script(end, { NOMAD_ENDED: session, NOMAD_ENDED_LEADER: String(leader ?? '') });
}

export function resizeProgram(terminal: string, { rows, columns }: TerminalSize): Program {
  return script(`stty rows ${rows} cols ${columns} <${terminal}`, {});
}
