package nomadtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// V-95 V-133 P-32 P-33: the example's commands reach the small guest: nomad alloc exec with and without input and a terminal, an action, a script check, a template whose change runs a script; and so does the terminal of the web UI.
func TestV95_CommandsInTheSmallGuest(t *testing.T) {
	c, consul := newClientWithConsul(t)
	guest := newReached(c, consul, tinyImage(t), "64", "160")
	guest.says("TINY-READY")
	guest.isReached(t, "first")
	guest.isReachedByBrowser(t)
}

// V-95 V-133 P-32 P-33: the same commands reach a Debian without a guest agent by ssh, and by the agent from the moment that one runs, and so does the terminal of the web UI; a shell at a terminal does not hold up a stop.
func TestV95_CommandsInADebian(t *testing.T) {
	image := os.Getenv("QMP_DEBIAN_IMAGE")
	if image == "" {
		t.Skip("the Debian guest could not be built on this host")
	}
	c, consul := newClientWithConsul(t)
	guest := newReached(c, consul, image, "1200", "768", `user_data = <<DATA
#cloud-config
bootcmd:
  - systemctl mask --now qemu-guest-agent
runcmd:
  - echo "SSH-READY" > /dev/ttyS0
DATA`)
	eventually(t, 400*time.Second, "SSH-READY", func() error {
		if log := guest.logs("stdout"); !strings.Contains(log, "SSH-READY") {
			return fmt.Errorf("the log ends with %q\n%s", tail(log, 300), guest.story())
		}
		return nil
	})
	guest.isReached(t, "first")
	must.StrContains(t, guest.ways(t), "way=ssh")
	guest.hasWebShell(t, "client")
	guest.noticesClosedPage(t)
	must.StrNotContains(t, guest.ways(t), "way=agent")
	code, _, stderr := guest.exec(t, "", "sh", "-c", "systemctl unmask qemu-guest-agent && systemctl start qemu-guest-agent")
	must.Eq(t, 0, code, must.Sprint(stderr))
	eventually(t, 60*time.Second, "a command by the agent", func() error {
		guest.exec(t, "", "true")
		if ways := guest.ways(t); !strings.Contains(ways, "way=agent") {
			return fmt.Errorf("%s", tail(ways, 300))
		}
		return nil
	})
	guest.isReached(t, "second")
	guest.hasWebShell(t, "server")
	t.Run("a stop is not held up by a shell at a terminal", func(t *testing.T) {
		// A shell at a terminal ignores SIGTERM, and systemd would wait for it until kill_timeout is over.
		terminal := guest.terminal(t, "sh")
		terminal.types(t, "echo here-$((3 + 4))\n")
		eventually(t, 60*time.Second, "here-7", func() error { return lacks(terminal.shown, "here-7") })
		guest.stop()
		done := guest.becomes("complete", 90*time.Second)
		must.False(t, done.TaskStates["vm"].Failed)
		must.StrContains(t, guest.story(), "Guest powered off")
		must.StrNotContains(t, guest.story(), "did not power off in time")
	})
}

// reached is a job of examples/exec.nomad.hcl whose guest runs what Nomad asks it to.
type reached struct {
	*job
	alloc  *api.Allocation
	consul *consul
}

// newReached runs the example on another image, with a check that comes more often.
func newReached(c *client, consul *consul, image, diskMiB, memoryMiB string, config ...string) *reached {
	c.t.Helper()
	text, err := os.ReadFile("../../examples/exec.nomad.hcl")
	must.NoError(c.t, err)
	id := c.name + "-commands"
	parts := append([]string{fmt.Sprintf("%q", image), `accelerator = "tcg"`, "vcpus = 1"}, config...)
	it := &reached{consul: consul, job: &job{c: c, id: id, text: strings.NewReplacer(
		`job "commands" {`, fmt.Sprintf("job %q {\n  datacenters = [%q]", id, c.name),
		"nomad/jobs/commands", "nomad/jobs/"+id,
		`"/var/local/images/debian-12-genericcloud-amd64.qcow2"`, strings.Join(parts, "\n        "),
		`"virbr0"`, fmt.Sprintf("%q", c.bridge),
		`= "10s"`, `= "1s"`,
		`= "5s"`, `= "20s"`,
		`kill_timeout = "30s"`, `kill_timeout = "60s"`,
		"4096", diskMiB,
		"512", memoryMiB,
	).Replace(string(text))}}
	it.greeting("hello")
	it.run()
	stub := it.becomes("running", 60*time.Second)
	it.alloc, _, err = c.api.Allocations().Info(stub.ID, nil)
	must.NoError(c.t, err)
	return it
}

func (r *reached) greeting(word string) {
	r.c.t.Helper()
	_, _, err := r.c.api.Variables().Update(&api.Variable{
		Path: "nomad/jobs/" + r.id, Items: map[string]string{"greeting": word},
	}, nil)
	must.NoError(r.c.t, err)
}

// isReached runs a command in each way that Nomad has; the template's script gives the guest a new greeting, which the others read.
func (r *reached) isReached(t *testing.T, greeting string) {
	t.Run("streams, "+greeting, func(t *testing.T) {
		code, stdout, stderr := r.exec(t, "given\n", "sh", "-c", "cat; echo $NOMAD_TASK_NAME; echo wrong >&2; exit 3")
		must.Eq(t, 3, code)
		must.Eq(t, "given\nvm\n", stdout)
		must.Eq(t, "wrong\n", stderr)
	})
	t.Run("a terminal, "+greeting, func(t *testing.T) {
		terminal := r.terminal(t, "sh")
		hasSize(t, terminal, terminal.shown, "33 101")
		terminal.types(t, "exit 7\n")
		must.Eq(t, 7, terminal.ended(t))
	})
	t.Run("a template's script, and a check, "+greeting, func(t *testing.T) {
		r.greeting(greeting)
		eventually(t, 90*time.Second, "a check that reports "+greeting, func() error {
			return r.consul.reported("passing", greeting+"\n")
		})
		code, _, stderr := r.exec(t, "", "rm", "/etc/greeting")
		must.Eq(t, 0, code, must.Sprint(stderr))
		eventually(t, 90*time.Second, "a check that fails", func() error {
			return r.consul.reported("warning", "No such file")
		})
		code, _, stderr = r.exec(t, "", "cp", "/local/greeting", "/etc/greeting")
		must.Eq(t, 0, code, must.Sprint(stderr))
	})
	t.Run("the command line tool, "+greeting, func(t *testing.T) {
		code, output := r.nomad(t, "", "alloc", "exec", "-i=false", "-t=false", "-task=vm", r.alloc.ID, "sh", "-c", "echo $NOMAD_TASK_NAME; exit 4")
		must.Eq(t, 4, code, must.Sprint(output))
		must.Eq(t, "vm\n", output)
		code, output = r.nomad(t, "given\n", "alloc", "exec", "-i", "-t=false", "-task=vm", r.alloc.ID, "cat")
		must.Eq(t, 0, code, must.Sprint(output))
		must.Eq(t, "given\n", output)
	})
	t.Run("an action, "+greeting, func(t *testing.T) {
		code, output := r.nomad(t, "", "action", "-i=false", "-t=false", "-job="+r.id, "-group=web", "-task=vm", "greeting")
		must.Eq(t, 0, code, must.Sprint(output))
		must.StrContains(t, output, greeting+"\n")
	})
}

// exec is "nomad alloc exec" through the API.
func (r *reached) exec(t *testing.T, input string, command ...string) (int, string, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient(60*time.Second))
	defer cancel()
	var stdout, stderr bytes.Buffer
	code, err := r.c.api.Allocations().Exec(ctx, r.alloc, "vm", false, command,
		strings.NewReader(input), &stdout, &stderr, nil, nil)
	must.NoError(t, err)
	return code, stdout.String(), stderr.String()
}

// terminal is "nomad alloc exec -t" that goes on.
type terminal struct {
	input *io.PipeWriter
	shown *lockedBuffer
	code  chan int
}

func (r *reached) terminal(t *testing.T, command ...string) *terminal {
	t.Helper()
	reader, writer := io.Pipe()
	it := &terminal{input: writer, shown: &lockedBuffer{}, code: make(chan int, 1)}
	sizes := make(chan api.TerminalSize, 1)
	sizes <- api.TerminalSize{Height: 33, Width: 101}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		code, _ := r.c.api.Allocations().Exec(ctx, r.alloc, "vm", true, command, reader, it.shown, io.Discard, sizes, nil)
		it.code <- code
	}()
	return it
}

func (it *terminal) types(t *testing.T, text string) {
	t.Helper()
	_, err := it.input.Write([]byte(text))
	must.NoError(t, err)
}

func (it *terminal) ended(t *testing.T) int { return receive(t, it.code, 60*time.Second) }

// nomad runs a command of the command line tool.
func (r *reached) nomad(t *testing.T, input string, args ...string) (int, string) {
	t.Helper()
	command := exec.Command(fromEnv(t, "NOMAD_BIN"), args...)
	command.Env = append(os.Environ(), "NOMAD_ADDR="+r.c.api.Address())
	command.Stdin = strings.NewReader(input)
	output, err := command.CombinedOutput()
	if command.ProcessState == nil {
		must.NoError(t, err)
	}
	return command.ProcessState.ExitCode(), string(output)
}

// ways are the lines of the agent's log that name the way by which a command was started.
func (r *reached) ways(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(r.c.log)
	must.NoError(t, err)
	var lines []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if strings.Contains(line, "command started in the guest") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
