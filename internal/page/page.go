// Package page is what all pages for people share: their head, looks and the
// words for sizes, counts and digests.
//
// Pages are files: no script, nothing that is fetched, and a policy in the head
// that holds browsers to that. They read without style too, follow the reader's
// choice of light or dark, and fit a screen of 400 pixels. What is put into
// them may be hostile: html/template escapes it.
package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"sync"
)

//go:embed page.css
var css string

// policy is the Content-Security-Policy: styles of the page itself, no script.
const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'"

// head begins a page whose title is the template's argument.
const head = `{{define "head"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{policy}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<meta name="referrer" content="no-referrer">
<title>{{.}}</title>
<style>
{{css}}</style>
</head>
<body>
{{end}}{{define "foot"}}</body>
</html>
{{end}}`

// Parse makes the template of a page, when it is first asked for. Its text begins with {{template "head"
// TITLE}} and ends with {{template "foot"}}; between them it has a main
// element. It may use size, count, short and class beside funcs. It panics if
// the text, a constant, is none.
func Parse(name, text string, funcs template.FuncMap) func() *template.Template {
	return sync.OnceValue(func() *template.Template { return parse(name, text, funcs) })
}

func parse(name, text string, funcs template.FuncMap) *template.Template {
	return template.Must(template.Must(template.New(name).Funcs(template.FuncMap{
		"policy": func() template.HTMLAttr { return policy },
		"css":    func() template.CSS { return template.CSS(css) },
		"size":   Size, "count": Count, "short": Short, "class": Class,
	}).Funcs(funcs).Parse(head)).Parse(text))
}

// Count is a number of things with their name, whose plural ends in s.
func Count(n any, what string) string {
	text := fmt.Sprint(n)
	if text != "1" {
		what += "s"
	}
	return text + " " + what
}

// Size is a number of bytes in units of 1024.
func Size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 1<<10 && unit < 5 {
		value /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, " KMGTP"[unit])
}

// Short is the beginning of a digest or checksum, enough to tell it from others.
func Short(digest any) string {
	text := fmt.Sprint(digest)
	if _, hex, ok := strings.Cut(text, "@"); ok {
		text = hex
	}
	text = strings.TrimPrefix(text, "sha256:")
	return text[:min(12, len(text))]
}

// Class is the class of a state's colour: good, warn or bad; "" for others.
func Class(state any) string {
	switch strings.ToLower(fmt.Sprint(state)) {
	case "ok", "passed", "succeeded", "accepted":
		return "good"
	case "warning", "pending", "waived", "ready":
		return "warn"
	case "failing", "failed", "rejected":
		return "bad"
	}
	return ""
}
