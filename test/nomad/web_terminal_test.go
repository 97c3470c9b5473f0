package nomadtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// isReachedByBrowser opens the terminal of Nomad's web UI, which any agent serves.
func (r *reached) isReachedByBrowser(t *testing.T, agents ...string) {
	node, _, err := r.c.api.Nodes().Info(r.c.node, nil)
	must.NoError(t, err)
	addresses := map[string]string{"server": r.c.api.Address(), "client": "http://" + node.HTTPAddr}
	for _, agent := range agents {
		t.Run("the UI's terminal, from the "+agent, func(t *testing.T) { r.webTerminal(t, addresses[agent]) })
	}
}

func (r *reached) webTerminal(t *testing.T, agent string) {
	t.Run("a shell: sizes, Ctrl-C, exit code", func(t *testing.T) {
		page := r.openPage(t, agent, "/bin/sh")
		page.hasSize(t, "33 101")
		page.sends(t, `{"tty_size":{"width":77,"height":22}}`)
		page.hasSize(t, "22 77")
		page.sends(t, `{}`)
		page.types(t, "sleep 86401\r")
		r.runs(t, "sleep 86401", true)
		page.types(t, "\x03")
		page.types(t, "echo code-$?\r")
		page.shows(t, "code-130")
		page.types(t, "exit 7\r")
		must.Eq(t, 7, receive(t, page.code, 60*time.Second))
		receive(t, page.closed, 60*time.Second)
	})
	t.Run("each message has whole letters", func(t *testing.T) {
		// The page decodes each message alone.
		page := r.openPage(t, agent, "/bin/sh")
		page.types(t, `line=$(printf '\342\224\202\303\244\342\202\254\360\237\230\200'); for i in 1 2 3 4 5 6 7 8 9; do line=$line$line; done; for i in 1 2 3 4; do echo "$line"; done`+"\r")
		// QEMU drops what a console prints while the plugin is late to read it, as on a busy host.
		eventually(t, 60*time.Second, "end-7", func() error {
			page.types(t, "echo end-$((3 + 4))\r")
			time.Sleep(time.Second)
			return page.lacks("end-7")
		})
		must.False(t, page.cut.Load(), must.Sprint("a letter was cut in two"))
		page.types(t, "exit\r")
		must.Eq(t, 0, receive(t, page.code, 60*time.Second))
	})
	t.Run("a program that the guest lacks", func(t *testing.T) {
		page := r.openPage(t, agent, "/bin/no-such-shell")
		must.Eq(t, 127, receive(t, page.code, 60*time.Second))
		must.StrContains(t, page.shown.String(), "/bin/no-such-shell")
	})
	if agent == r.c.api.Address() {
		// The connection between two agents is kept for five minutes after its end.
		return
	}
	t.Run("a page that goes away", func(t *testing.T) {
		page := r.openPage(t, agent, "/bin/sh")
		page.types(t, "sleep 86402\r")
		r.runs(t, "sleep 86402", true)
		must.NoError(t, page.socket.NetConn().Close())
		r.runs(t, "sleep 86402", false)
	})
}

// runs waits until a command runs in the guest, or no longer.
func (r *reached) runs(t *testing.T, command string, expected bool) {
	t.Helper()
	eventually(t, 60*time.Second, fmt.Sprintf("%s: %v", command, expected), func() error {
		_, all, _ := r.exec(t, "", "sh", "-c", `for i in /proc/[0-9]*; do tr '\0' ' ' <$i/cmdline; echo; done 2>/dev/null`)
		if strings.Contains(all, "\n"+command+" \n") != expected {
			return fmt.Errorf("in the guest run %s", all)
		}
		return nil
	})
}

// webPage is one terminal of the UI: a socket with its messages, in the browser's form.
type webPage struct {
	socket *websocket.Conn
	shown  lockedBuffer
	cut    atomic.Bool
	code   chan int
	closed chan error
}

func (r *reached) openPage(t *testing.T, agent, command string) *webPage {
	t.Helper()
	address := strings.Replace(agent, "http", "ws", 1) + "/v1/client/allocation/" + r.alloc.ID +
		"/exec?task=vm&tty=true&ws_handshake=true&region=global&command=" + url.QueryEscape(fmt.Sprintf("[%q]", command))
	dialer := websocket.Dialer{EnableCompression: true}
	socket, answer, err := dialer.Dial(address, http.Header{"Origin": {agent}, "Accept-Encoding": {"gzip, deflate, br"}})
	must.NoError(t, err, must.Sprint(answer))
	it := &webPage{socket: socket, code: make(chan int, 1), closed: make(chan error, 1)}
	t.Cleanup(func() { _ = socket.Close() })
	it.sends(t, `{"version":1,"auth_token":""}`)
	it.sends(t, `{"tty_size":{"width":101,"height":33}}`)
	go func() { it.closed <- it.read() }()
	return it
}

func (p *webPage) read() error {
	for {
		var message api.ExecStreamingOutput
		if err := p.socket.ReadJSON(&message); err != nil {
			return err
		}
		if output := message.Stdout; output != nil {
			if !utf8.Valid(output.Data) {
				p.cut.Store(true)
			}
			_, _ = p.shown.Write(output.Data)
		}
		if message.Exited {
			p.code <- message.Result.ExitCode
		}
	}
}

func (p *webPage) sends(t *testing.T, message string) {
	t.Helper()
	must.NoError(t, p.socket.WriteMessage(websocket.TextMessage, []byte(message)))
}

func (p *webPage) types(t *testing.T, text string) {
	t.Helper()
	data, err := json.Marshal(api.ExecStreamingInput{Stdin: &api.ExecStreamingIOOperation{Data: []byte(text)}})
	must.NoError(t, err)
	p.sends(t, string(data))
}

func (p *webPage) shows(t *testing.T, text string) {
	t.Helper()
	eventually(t, 60*time.Second, text, func() error { return p.lacks(text) })
}

// hasSize asks again: a size comes beside what is typed.
func (p *webPage) hasSize(t *testing.T, size string) {
	t.Helper()
	eventually(t, 60*time.Second, size, func() error {
		p.types(t, "stty size\r")
		time.Sleep(200 * time.Millisecond)
		return p.lacks(size)
	})
}

func (p *webPage) lacks(text string) error {
	if shown := p.shown.String(); !strings.Contains(shown, text) {
		return fmt.Errorf("the terminal shows %q", tail(shown, 600))
	}
	return nil
}
