package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io/fs"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/okd-project/okd-streams/stream"
)

// Limits of an event. Longer ones are cut, and say so.
const (
	MaxLines    = 40
	MaxLineSize = 400 // bytes
	MaxLinks    = 20
)

// Event is what people are told.
type Event struct {
	Occasion stream.Occasion `json:"occasion"`
	Stream   string          `json:"stream"`
	Release  string          `json:"release,omitempty"`
	Time     time.Time       `json:"time"` // of the event, not of telling it
	// Title is one line; "": by Occasion, Stream and Release.
	Title string   `json:"title"`
	Lines []string `json:"lines,omitempty"` // plain text
	Links []Link   `json:"links,omitempty"`
}

// Link is a page about the event.
type Link struct {
	Name string `json:"name"`
	URL  string `json:"url"` // http or https
}

// titles are by occasion; the second is for events without a release.
var titles = map[stream.Occasion][2]stream.Template{
	stream.OnSuccess:   {"${STREAM}: ${VERSION} was built", "${STREAM}: the build succeeded"},
	stream.OnFailure:   {"${STREAM}: ${VERSION} failed", "${STREAM}: the build failed"},
	stream.OnPromotion: {"${STREAM}: ${VERSION} is released", "${STREAM}: there is a new release"},
	stream.OnStale:     {"${STREAM}: nothing new since ${VERSION}", "${STREAM}: nothing new for too long"},
}

// complete checks an event and gives a copy with all that is said, cut to the
// limits and without what a terminal or a chat would obey.
func (e *Event) complete() (*Event, error) {
	templates, ok := titles[e.Occasion]
	if !ok || e.Stream == "" {
		return nil, fmt.Errorf("event with occasion %q of stream %q: %w", e.Occasion, e.Stream, fs.ErrInvalid)
	}
	out := &Event{Occasion: e.Occasion, Stream: line(e.Stream), Release: line(e.Release), Time: e.Time.UTC(), Title: line(e.Title)}
	if out.Title == "" {
		template := templates[0]
		if out.Release == "" {
			template = templates[1]
		}
		title, err := template.Expand(stream.Vars{Stream: out.Stream, Version: out.Release})
		if err != nil {
			return nil, err
		}
		out.Title = title
	}
	for i, text := range e.Lines {
		if i == MaxLines {
			out.Lines = append(out.Lines, fmt.Sprintf("… and %d lines more", len(e.Lines)-i))
			break
		}
		out.Lines = append(out.Lines, line(text))
	}
	for _, l := range e.Links[:min(len(e.Links), MaxLinks)] {
		u, err := url.Parse(l.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return nil, fmt.Errorf("link %q: not an http or https address: %w", line(l.Name), fs.ErrInvalid)
		}
		name := line(l.Name)
		if name == "" {
			name = u.Host
		}
		out.Links = append(out.Links, Link{Name: name, URL: u.String()})
	}
	return out, nil
}

// line is text in one line: no control characters, none that turn the order of
// reading around, at most MaxLineSize bytes.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	if len(text) > MaxLineSize {
		text = strings.ToValidUTF8(text[:MaxLineSize-len("…")], "") + "…"
	}
	return text
}

// plain is the event as text.
func (e *Event) plain() string {
	var b strings.Builder
	b.WriteString(e.Title)
	for _, l := range e.Lines {
		b.WriteString("\n" + l)
	}
	for _, l := range e.Links {
		b.WriteString("\n" + l.Name + ": " + l.URL)
	}
	return b.String()
}

// html is the event in the part of HTML that Matrix allows.
func (e *Event) html() string {
	var b strings.Builder
	b.WriteString("<strong>" + html.EscapeString(e.Title) + "</strong>")
	for _, l := range e.Lines {
		b.WriteString("<br>" + html.EscapeString(l))
	}
	for _, l := range e.Links {
		b.WriteString(`<br><a href="` + html.EscapeString(l.URL) + `">` + html.EscapeString(l.Name) + "</a>")
	}
	return b.String()
}

// slackEscape takes their meaning from the three characters that have one in
// Slack's markup.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// slack is the event in Slack's markup.
func (e *Event) slack() string {
	var b strings.Builder
	b.WriteString("*" + slackEscape.Replace(e.Title) + "*")
	for _, l := range e.Lines {
		b.WriteString("\n" + slackEscape.Replace(l))
	}
	for _, l := range e.Links {
		b.WriteString("\n<" + slackEscape.Replace(strings.ReplaceAll(l.URL, "|", "%7C")) + "|" + slackEscape.Replace(l.Name) + ">")
	}
	return b.String()
}

// key is the same for the same event at the same target.
func (e *Event) key(target string) (string, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(target+"\n"), data...))
	return "okd-streams-" + hex.EncodeToString(sum[:16]), nil
}
