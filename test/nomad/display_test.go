package nomadtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// V-83 V-133: the example with a display runs under an agent: its password comes from a variable, the server asks for it at
// the port that Nomad chose, and the port is free again after the end.
func TestDisplayExample(t *testing.T) {
	text, err := os.ReadFile("../../examples/display.nomad.hcl")
	must.NoError(t, err)
	c := newClient(t)
	job := &job{c: c, id: c.name + "-desktop", text: strings.NewReplacer(
		`job "desktop" {`, fmt.Sprintf("job %q {\n  datacenters = [%q]", c.name+"-desktop", c.name),
		"nomad/jobs/desktop", "nomad/jobs/"+c.name+"-desktop",
		`"/var/local/images/desktop.qcow2"`, fmt.Sprintf("%q\naccelerator = \"tcg\"", sectorImage(t, obedient)),
		"20480", "64",
		"2048", "64",
		"2000", "50",
	).Replace(string(text))}
	_, _, err = c.api.Variables().Update(&api.Variable{
		Path: "nomad/jobs/" + job.id, Items: map[string]string{"vnc_password": "hush-hus"},
	}, nil)
	must.NoError(t, err)
	job.run()
	job.becomes("running", 60*time.Second)
	port := onHost(job.hostPorts()["vnc"])
	must.Eq(t, []byte{1, 2}, screenLogin(t, port), must.Sprint("one way to log in: by the password"))
	for _, qemu := range emulators(c.dir) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", qemu.pid))
		must.NoError(t, err)
		must.StrNotContains(t, string(line), "hush")
	}
	job.stop()
	job.becomes("complete", 60*time.Second)
	must.SliceEmpty(t, emulators(c.dir))
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", port)
	must.NoError(t, err)
	must.NoError(t, listener.Close())
}

// screenLogin connects to a VNC server and gives the number of ways to log in, and these.
func screenLogin(t testing.TB, address string) []byte {
	t.Helper()
	connection, err := net.DialTimeout("tcp", address, patient(10*time.Second))
	must.NoError(t, err)
	defer connection.Close()
	must.NoError(t, connection.SetDeadline(time.Now().Add(patient(10*time.Second))))
	greeting := make([]byte, 12)
	_, err = io.ReadFull(connection, greeting)
	must.NoError(t, err)
	must.Eq(t, "RFB 003.008\n", string(greeting))
	_, err = connection.Write(greeting)
	must.NoError(t, err)
	ways := make([]byte, 2)
	_, err = io.ReadFull(connection, ways)
	must.NoError(t, err)
	return ways
}
