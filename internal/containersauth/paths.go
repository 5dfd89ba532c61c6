package containersauth

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// legacyName is the name of files in the format from before auths.
const legacyName = ".dockercfg"

// DefaultPaths lists the files that podman and oc read without a flag:
// $REGISTRY_AUTH_FILE alone if it is set, else containers/auth.json in
// $XDG_RUNTIME_DIR (/run/containers/UID/auth.json without it) and in
// $XDG_CONFIG_HOME (~/.config), then config.json in $DOCKER_CONFIG (~/.docker),
// then ~/.dockercfg. If $REGISTRY_AUTH_PREFERENCE is docker, Docker's two come
// first, as oc has it. getenv is [os.Getenv] of a program.
func DefaultPaths(getenv func(string) string) []string {
	if file := getenv("REGISTRY_AUTH_FILE"); file != "" {
		return []string{file}
	}
	var podman, docker []string
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		podman = append(podman, filepath.Join(dir, "containers", "auth.json"))
	} else {
		podman = append(podman, filepath.Join("/run/containers", strconv.Itoa(os.Getuid()), "auth.json"))
	}
	home := getenv("HOME")
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		podman = append(podman, filepath.Join(dir, "containers", "auth.json"))
	} else if home != "" {
		podman = append(podman, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		docker = append(docker, filepath.Join(dir, "config.json"))
	} else if home != "" {
		docker = append(docker, filepath.Join(home, ".docker", "config.json"))
	}
	if home != "" {
		docker = append(docker, filepath.Join(home, legacyName))
	}
	if strings.EqualFold(getenv("REGISTRY_AUTH_PREFERENCE"), "docker") {
		return slices.Concat(docker, podman)
	}
	return slices.Concat(podman, docker)
}
