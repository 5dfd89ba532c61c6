package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/stream"
)

// firstArgs are what the shell offers as arguments, by command.
var firstArgs = map[string]cobra.CompletionFunc{
	"stream show": streams(false), "stream lint": streams(true), "stream diff": streams(true), "stream status": streams(true), "stream bump": files,
	"tekton render": streams(true), "actions render": streams(true),
	"gate run": gates, "gate record": gates,
	"ostree log": refs, "ostree ls": refs, "ostree show": refs, "ostree checkout": refs, "ostree cat": refs, "ostree diff": refs, "container encapsulate": refs,
}

// complete tells the shell what arguments and flags may be: streams, gates,
// refs, formats, platforms.
func complete(root *cobra.Command) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			visit(c)
		}
		if fn := firstArgs[strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")]; fn != nil {
			cmd.ValidArgsFunction = fn
		}
		offer := func(f *pflag.Flag) {
			var fn cobra.CompletionFunc
			switch {
			case f.Name == "stream" && strings.Contains(f.Usage, "built-in"):
				fn = streams(true)
			case f.Name == "platform" && strings.HasPrefix(cmd.CommandPath(), "okd-streams bootimage"):
				fn = artifacts(func(a stream.Artifact) string { return a.Platform })
			case f.Name == "format" && strings.HasPrefix(cmd.CommandPath(), "okd-streams bootimage"):
				fn = artifacts(func(a stream.Artifact) string { return a.Format })
			}
			if list, ok := f.Value.(interface{ Completions() []string }); ok {
				fn = cobra.FixedCompletions(list.Completions(), cobra.ShellCompDirectiveNoFileComp)
			} else if f.Name == "output" && strings.Contains(f.Usage, "text|json|yaml") {
				fn = cobra.FixedCompletions([]string{"text", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)
			}
			if fn != nil {
				// It is an error only for a flag that is not there, or twice.
				_ = cmd.RegisterFlagCompletionFunc(f.Name, fn)
			}
		}
		cmd.PersistentFlags().VisitAll(offer)
		cmd.LocalNonPersistentFlags().VisitAll(offer)
	}
	visit(root)
}

func files(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// streams offers the built-in ones, and files where a definition may be one.
func streams(file bool) cobra.CompletionFunc {
	directive := cobra.ShellCompDirectiveNoFileComp
	if file {
		directive = cobra.ShellCompDirectiveDefault
	}
	return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return beginning(stream.BuiltinNames(), begun), directive
	}
}

// gates offers those of --stream.
func gates(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	f := cmd.Flag("stream")
	if f == nil || f.Value.String() == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	def, err := walk.Definition(f.Value.String())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, g := range def.Gates {
		names = append(names, g.Name)
	}
	return beginning(names, begun), cobra.ShellCompDirectiveNoFileComp
}

// refs offers those of --repo, before which there is nothing to offer.
func refs(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	f := cmd.Flag("repo")
	if f == nil || f.Value.String() == "" {
		return nil, cobra.ShellCompDirectiveDefault
	}
	r, err := ostree.Open(cmd.Context(), f.Value.String(), nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer func() { _ = r.Close() }()
	var names []string
	for ref, err := range r.Refs(cmd.Context()) {
		if err != nil {
			break
		}
		names = append(names, ref.Name)
	}
	return beginning(names, begun), cobra.ShellCompDirectiveDefault
}

func beginning(names []string, begun string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, begun) })
}

// artifacts offers what the built-in streams make.
func artifacts(of func(stream.Artifact) string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		var all []string
		for _, name := range stream.BuiltinNames() {
			def, err := stream.Builtin(name)
			if err != nil {
				continue
			}
			for _, a := range def.Artifacts {
				all = append(all, of(a))
			}
		}
		slices.Sort(all)
		return beginning(slices.Compact(all), begun), cobra.ShellCompDirectiveNoFileComp
	}
}
