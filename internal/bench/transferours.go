package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func writeSpecs(file string, specs []string) error {
	data, err := json.Marshal(specs)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func readSpecs(file string) (specs []string, err error) {
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &specs)
	}
	return specs, err
}

// oursCopy copies the images of a list to a repository, with a journal.
func oursCopy(ctx context.Context, list, to string) error {
	specs, err := readSpecs(list)
	if err != nil {
		return err
	}
	var copies []publish.Copy
	for i, spec := range specs {
		copies = append(copies, publish.Copy{From: spec, To: to, Tags: []string{tagOf(i)}})
	}
	registry, err := remoteregistry.Open(ctx, &remoteregistry.Options{Concurrency: floorJobs})
	if err != nil {
		return err
	}
	_, err = publish.Transfer(ctx, registry, registry, copies, &publish.TransferOptions{Journal: publish.FileJournal(list + ".journal")})
	return err
}

// oursLarge moves one image between a folder of layouts and a registry.
func oursLarge(ctx context.Context, dir, text string, push bool) error {
	tag, err := name.NewTag(text)
	if err != nil {
		return err
	}
	remote, err := remoteregistry.Open(ctx, nil)
	if err != nil {
		return err
	}
	local, err := layoutregistry.Open(ctx, dir, &layoutregistry.Options{NoSync: true})
	if err != nil {
		return err
	}
	if push {
		_, err = publish.Transfer(ctx, remote, local, []publish.Copy{{From: localLarge.Tag("1").String(), To: tag.Repository.String(), Tags: []string{tag.TagStr()}}}, nil)
	} else {
		_, err = publish.Transfer(ctx, local, remote, []publish.Copy{{From: tag.String(), To: localLarge.String(), Tags: []string{"1"}}}, nil)
	}
	return err
}
