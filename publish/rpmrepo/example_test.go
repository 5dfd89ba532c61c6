package rpmrepo_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/okd-project/okd-streams/publish/rpmrepo"
	"github.com/okd-project/okd-streams/stream"
)

// A package of okd-coreos-pipeline#56 is asked for, whose repository wants a
// password.
func ExampleCheck() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()

	def, err := stream.Builtin("okd-scos-next")
	if err != nil {
		panic(err)
	}
	def.OS.Packages = []string{"ose-aws-ecr-image-credential-provider"}
	def.OS.Repositories = []stream.RPMRepository{{Name: "ose", BaseURL: stream.Template(server.URL + "/reposync/${MINOR}/rpms")}}

	report, err := rpmrepo.Check(context.Background(), def, nil)
	if err != nil {
		panic(err)
	}
	for _, repository := range report.Repositories {
		fmt.Println(repository.Name, "is", repository.State)
		fmt.Println(" ", repository.Advice)
	}
	for _, request := range report.Requests {
		fmt.Println(request.Package, "is", request.State)
		fmt.Println(" ", request.Cause)
	}
	if err := report.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	// Output:
	// ose is locked
	//   name them at os.repositories[0].credentials (roles username and password, or token), or take a repository that is open to all
	// ose-aws-ecr-image-credential-provider is unknown
	//   it may be in ose, which could not be read
}
