package interop

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// Browser is a headless Chromium, driven through the pipe of its DevTools
// protocol (https://chromedevtools.github.io/devtools-protocol/).
type Browser struct {
	t       testing.TB
	axe     string // source text
	in      *os.File
	answers chan message
	done    chan struct{}
	last    int
}

// message is an answer (ID) or an event (Method).
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// browserTimeout bounds each wait for the browser, so that one that hangs fails
// the test.
const browserTimeout = 3 * time.Minute

// OpenBrowser starts the browser for a test that is gated like [Peer]; it ends
// with the test.
func OpenBrowser(t testing.TB) *Browser {
	t.Helper()
	Peer(t, "chromium")
	path, err := FetchAxe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := &Browser{t: t, axe: string(axe), answers: make(chan message, 1024), done: make(chan struct{})}
	theirIn, ourIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ourOut, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// The pages are ours, and in a container there is no sandbox to be had.
	cmd := exec.Command("chromium", "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
		"--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	var diagnostics bytes.Buffer
	cmd.Stderr = &diagnostics
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b.in = ourIn
	go b.read(ourOut)
	t.Cleanup(func() {
		b.send("", "Browser.close", nil)
		ourIn.Close()
		killed := time.AfterFunc(browserTimeout, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // it may say that it was interrupted
		killed.Stop()
		<-b.done
		ourOut.Close()
		if t.Failed() {
			said := slices.DeleteFunc(strings.Split(diagnostics.String(), "\n"), func(line string) bool { return strings.Contains(line, ":dbus/") })
			t.Logf("chromium: %s", tail(strings.Join(said, "\n"), 20))
		}
	})
	return b
}

// read hands on what the browser says: messages that end in a zero byte.
func (b *Browser) read(from *os.File) {
	defer close(b.done)
	r := bufio.NewReader(from)
	for {
		data, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(data[:len(data)-1], &m) == nil {
			select {
			case b.answers <- m:
			case <-time.After(browserTimeout):
				return // nobody listens
			}
		}
	}
}

func (b *Browser) send(session, method string, params any) int {
	b.last++
	data, err := json.Marshal(struct {
		ID      int    `json:"id"`
		Session string `json:"sessionId,omitempty"`
		Method  string `json:"method"`
		Params  any    `json:"params,omitempty"`
	}{b.last, session, method, params})
	if err == nil {
		_, err = b.in.Write(append(data, 0))
	}
	if err != nil {
		b.t.Errorf("chromium: %s: %v", method, err)
	}
	return b.last
}

// next gives the next message.
func (b *Browser) next(what string) message {
	b.t.Helper()
	select {
	case m := <-b.answers:
		return m
	case <-b.done:
		b.t.Fatalf("chromium ended during %s", what)
	case <-time.After(browserTimeout):
		b.t.Fatalf("chromium does not answer %s", what)
	}
	return message{}
}

// Look is what a browser found at an address.
type Look struct {
	// Requests are the addresses that were asked for besides the page's own.
	Requests []string
	// Complaints are what the browser logged: of the page's policy, of errors.
	Complaints []string
	// Text is what a reader sees with scripts turned off.
	Text string
	// Overflow is by how many pixels the page is wider than the screen.
	Overflow int
	// Violations are serious and critical ones that axe-core found.
	Violations []string
	// Picture is a PNG of the page.
	Picture []byte
}

// LookOptions say how a page is looked at.
type LookOptions struct {
	Dark  bool
	Width int // pixels; 0: 1280
	// Picture asks for one.
	Picture bool
}

// Look loads a page with scripts turned off, and has axe-core judge it.
func (b *Browser) Look(address string, opts *LookOptions) *Look {
	b.t.Helper()
	var o LookOptions
	if opts != nil {
		o = *opts
	}
	if o.Width == 0 {
		o.Width = 1280
	}
	look := &Look{}
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.ask(look, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		Session string `json:"sessionId"`
	}
	b.ask(look, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	call := func(method string, params map[string]any, out any) {
		b.t.Helper()
		b.ask(look, attached.Session, method, params, out)
	}
	scheme := "light"
	if o.Dark {
		scheme = "dark"
	}
	call("Page.enable", nil, nil)
	call("Network.enable", nil, nil)
	call("Log.enable", nil, nil)
	call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	call("Emulation.setDeviceMetricsOverride", map[string]any{"width": o.Width, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
	call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)

	id := b.send(attached.Session, "Page.navigate", map[string]any{"url": address})
	for answered, loaded := false, false; !answered || !loaded; {
		m := b.next("Page.navigate")
		switch {
		case m.ID == id:
			answered = true
			var failed struct {
				Text string `json:"errorText"`
			}
			if m.Error != nil || json.Unmarshal(m.Result, &failed) == nil && failed.Text != "" {
				b.t.Fatalf("chromium: %s: %v %s", address, m.Error, failed.Text)
			}
		case m.Method == "Page.loadEventFired":
			loaded = true
		}
		look.note(m)
	}
	b.evaluate(call, "document.body.innerText", &look.Text)
	b.evaluate(call, "document.documentElement.scrollWidth - document.documentElement.clientWidth", &look.Overflow)
	if o.Picture {
		var picture struct{ Data string }
		call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &picture)
		var err error
		if look.Picture, err = base64.StdEncoding.DecodeString(picture.Data); err != nil {
			b.t.Fatal(err)
		}
	}
	// axe-core is a script, which the page neither has nor allows.
	call("Emulation.setScriptExecutionDisabled", map[string]any{"value": false}, nil)
	b.evaluate(call, b.axe+"; 0", nil)
	var found []struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML string }
	}
	b.evaluate(call, "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => ({ID: v.id, Impact: v.impact, Help: v.help, Nodes: v.nodes.slice(0, 3).map(n => ({HTML: n.html.slice(0, 200)}))})))", &found)
	for _, v := range found {
		if v.Impact == "serious" || v.Impact == "critical" {
			text := fmt.Sprintf("%s %s: %s", v.Impact, v.ID, v.Help)
			for _, n := range v.Nodes {
				text += "\n\t" + n.HTML
			}
			look.Violations = append(look.Violations, text)
		}
	}
	b.ask(look, "", "Target.closeTarget", map[string]any{"targetId": target.TargetID}, nil)
	look.Requests = slices.DeleteFunc(look.Requests, func(r string) bool { return r == address })
	return look
}

// evaluate gives the value of an expression.
func (b *Browser) evaluate(call func(string, map[string]any, any), expression string, out any) {
	b.t.Helper()
	var result struct {
		Result struct{ Value json.RawMessage }
		Failed *struct {
			Text string
		} `json:"exceptionDetails"`
	}
	call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "allowUnsafeEvalBlockedByCSP": true}, &result)
	if result.Failed != nil {
		b.t.Fatalf("chromium: %.100s: %s", expression, result.Failed.Text)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(result.Result.Value, out); err != nil {
		b.t.Fatalf("chromium: %.100s: %v", expression, err)
	}
}

// ask sends a command and waits for its answer.
func (b *Browser) ask(look *Look, session, method string, params map[string]any, out any) {
	b.t.Helper()
	for id := b.send(session, method, params); ; {
		m := b.next(method)
		look.note(m)
		if m.ID != id {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("chromium: %s: %s", method, m.Error.Message)
		}
		if out != nil {
			if err := json.Unmarshal(m.Result, out); err != nil {
				b.t.Fatalf("chromium: %s: %v", method, err)
			}
		}
		return
	}
}

// note keeps what an event says of the page.
func (l *Look) note(m message) {
	switch m.Method {
	case "Network.requestWillBeSent":
		var p struct{ Request struct{ URL string } }
		if json.Unmarshal(m.Params, &p) == nil && !strings.HasPrefix(p.Request.URL, "data:") {
			l.Requests = append(l.Requests, p.Request.URL)
		}
	case "Log.entryAdded":
		var p struct{ Entry struct{ Text, URL string } }
		if json.Unmarshal(m.Params, &p) == nil {
			l.Complaints = append(l.Complaints, p.Entry.Text)
		}
	}
}
