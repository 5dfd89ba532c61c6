package actions_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/actions"
)

func ExampleRender() {
	def, err := stream.Builtin("okd-scos-next")
	if err != nil {
		log.Fatal(err)
	}
	digest := "@sha256:" + strings.Repeat("0", 64)
	files, err := actions.Render(def, &actions.Options{
		Image: "quay.io/okd/okd-streams" + digest,
		// What the definition leaves open, which a run by schedule would lack.
		Inputs: map[string]string{
			"source": "tar:/srv/os.tar", "extensions": "quay.io/okd/scos-content" + digest,
		},
		PublicKeys: publicKeys,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range files {
		fmt.Println(f.Path)
	}
	// Output:
	// .github/workflows/okd-streams-okd-scos-next-daily.yml
	// .github/workflows/okd-streams-okd-scos-next-promotion.yml
}

func ExampleSecrets() {
	def, err := stream.Builtin("okd-scos-next")
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range actions.Secrets(def) {
		fmt.Println(name)
	}
	// Output:
	// OKD_GITHUBAPP_AUTH_GITHUBAPP_PRIVATE_KEY
	// OKD_MATRIX_BOT_AUTH_TOKEN
	// OKD_QUAY_PULL_SECRET_DOCKERCONFIGJSON
	// OKD_RELEASE_GPG_SIGNING_KEY_PRIVATE_KEY
	// OKD_S3_CONFIG_CREDENTIALS
}
