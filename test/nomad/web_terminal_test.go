package nomadtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
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
func (r *reached) isReachedByBrowser(t *testing.T) {
	for _, agent := range []string{"server", "client"} {
		r.hasWebShell(t, agent)
		t.Run("the UI's terminal: each message has whole letters, from the "+agent, func(t *testing.T) {
			// The page decodes each message alone.
			page := r.openPage(t, agent, "/bin/sh")
			page.types(t, `line=$(printf '\342\224\202\303\244\342\202\254\360\237\230\200'); for i in 1 2 3 4 5 6 7 8 9; do line=$line$line; done; for i in 1 2 3 4; do echo "$line"; done`+"\r")
			page.types(t, "echo end-$((3 + 4))\r")
			page.shows(t, "end-7")
			must.False(t, page.cut.Load(), must.Sprint("a letter was cut in two"))
			page.types(t, "exit\r")
			must.Eq(t, 0, receive(t, page.code, 60*time.Second))
		})
		t.Run("the UI's terminal: a program that the guest lacks, from the "+agent, func(t *testing.T) {
			page := r.openPage(t, agent, "/bin/no-such-shell")
			must.Eq(t, 127, receive(t, page.code, 60*time.Second))
			must.StrContains(t, page.shown.String(), "/bin/no-such-shell")
		})
	}
	r.noticesClosedPage(t)
}

func (r *reached) hasWebShell(t *testing.T, agent string) {
	t.Run("the UI's terminal: sizes, Ctrl-C, exit code, from the "+agent, func(t *testing.T) {
		page := r.openPage(t, agent, "/bin/sh")
		hasSize(t, page, &page.shown, "33 101")
		page.sends(t, `{"tty_size":{"width":77,"height":22}}`)
		hasSize(t, page, &page.shown, "22 77")
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
}

// noticesClosedPage is about the client's terminal: the connection between two agents is kept for five minutes after its end.
func (r *reached) noticesClosedPage(t *testing.T) {
	t.Run("the UI's terminal: a page that goes away", func(t *testing.T) {
		page := r.openPage(t, "client", "/bin/sh")
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
		_, all, _ := r.exec(t, "", "sh", "-c", `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' '`)
		if strings.Contains(all, command+" ") != expected {
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
	origin := r.c.api.Address()
	if agent == "client" {
		node, _, err := r.c.api.Nodes().Info(r.c.node, nil)
		must.NoError(t, err)
		origin = "http://" + node.HTTPAddr
	}
	address := strings.Replace(origin, "http", "ws", 1) + "/v1/client/allocation/" + r.alloc.ID +
		"/exec?task=vm&tty=true&ws_handshake=true&region=global&command=" + url.QueryEscape(fmt.Sprintf("[%q]", command))
	dialer := websocket.Dialer{EnableCompression: true}
	socket, answer, err := dialer.Dial(address, http.Header{"Origin": {origin}, "Accept-Encoding": {"gzip, deflate, br"}})
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
	eventually(t, 60*time.Second, text, func() error { return lacks(&p.shown, text) })
}

var sizeAnswer = regexp.MustCompile(`\d+ \d+\r\n`)

// hasSize asks until a terminal has this size, which comes beside what is typed. Each question waits for the answer to
// the one before it: a slow guest works through all that was typed.
func hasSize(t *testing.T, keyboard interface{ types(*testing.T, string) }, screen *lockedBuffer, size string) {
	t.Helper()
	answers := func() int { return len(sizeAnswer.FindAllString(screen.String(), -1)) }
	asked := answers()
	eventually(t, 60*time.Second, size, func() error {
		if err := lacks(screen, size); err == nil || answers() < asked {
			return err
		}
		keyboard.types(t, "stty size\r")
		asked++
		return errors.New("not asked yet")
	})
}

func lacks(screen *lockedBuffer, text string) error {
	if shown := screen.String(); !strings.Contains(shown, text) {
		return fmt.Errorf("the terminal shows %q", tail(shown, 600))
	}
	return nil
}
