package nomadtest

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// V-95 P-33: nomad alloc exec, with and without input and a terminal, and an action of the job.
func TestV95_AllocExec(t *testing.T) {
	c := newClient(t)
	job := c.newJob("commands", jobParts{
		image:  tinyImage(t),
		memory: 160,
		task: `env { GREETING = "hello" }
		action "greet" {
			command = "/bin/sh"
			args    = ["-c", "echo $GREETING from an action"]
		}`,
	}).run()
	stub := job.becomes("running", 60*time.Second)
	job.says("TINY-READY")
	alloc, _, err := c.api.Allocations().Info(stub.ID, nil)
	must.NoError(t, err)
	run := func(tty bool, input string, command ...string) (int, string, string) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		var stdout, stderr bytes.Buffer
		sizes := make(chan api.TerminalSize, 1)
		sizes <- api.TerminalSize{Height: 33, Width: 101}
		code, err := c.api.Allocations().Exec(ctx, alloc, "vm", tty, command,
			strings.NewReader(input), &stdout, &stderr, sizes, nil)
		must.NoError(t, err)
		return code, stdout.String(), stderr.String()
	}
	t.Run("streams", func(t *testing.T) {
		code, stdout, stderr := run(false, "given\n", "sh", "-c", "cat; echo $GREETING; echo wrong >&2; exit 3")
		must.Eq(t, 3, code)
		must.Eq(t, "given\nhello\n", stdout)
		must.Eq(t, "wrong\n", stderr)
	})
	t.Run("a terminal", func(t *testing.T) {
		// Nomad sends the size beside the input: which of them comes first is not certain.
		code, _, _ := run(true, "until stty size | grep '33 101'; do sleep 0.1; done; exit 7\n", "sh")
		must.Eq(t, 7, code)
	})
	t.Run("the command line tool", func(t *testing.T) {
		command := exec.Command(fromEnv(t, "NOMAD_BIN"), "alloc", "exec", "-i=false", "-t=false", "-task", "vm",
			"-address", c.api.Address(), alloc.ID, "sh", "-c", "echo $GREETING; exit 4")
		output, err := command.CombinedOutput()
		must.Error(t, err)
		must.Eq(t, 4, command.ProcessState.ExitCode(), must.Sprint(string(output)))
		must.Eq(t, "hello\n", string(output))
	})
	t.Run("an action", func(t *testing.T) {
		command := exec.Command(fromEnv(t, "NOMAD_BIN"), "action", "-address", c.api.Address(), "-i=false", "-t=false",
			"-job", job.id, "-alloc", alloc.ID, "-task", "vm", "greet")
		output, err := command.CombinedOutput()
		must.NoError(t, err, must.Sprint(string(output)))
		must.StrContains(t, string(output), "hello from an action")
	})
}

// V-95 P-32: a template whose change runs a script in the guest.
func TestV95_TemplateScript(t *testing.T) {
	c := newClient(t)
	job := c.newJob("script", jobParts{image: tinyImage(t), memory: 160})
	path := "nomad/jobs/" + job.id
	tell := func(word string) {
		_, _, err := c.api.Variables().Update(&api.Variable{Path: path, Items: map[string]string{"word": word}}, nil)
		must.NoError(t, err)
	}
	tell("first")
	job.text = strings.Replace(job.text, "      config {", fmt.Sprintf(`      template {
        data        = "{{ with nomadVar \"%s\" }}{{ .word }}{{ end }}"
        destination = "local/word"
        change_mode = "script"
        change_script {
          command = "/bin/sh"
          args    = ["-c", "echo SCRIPT-RAN >/dev/ttyS0"]
          timeout = "20s"
        }
      }
      config {`, path), 1)
	job.run()
	job.becomes("running", 60*time.Second)
	job.says("TINY-READY")
	tell("second")
	job.says("SCRIPT-RAN")
}
