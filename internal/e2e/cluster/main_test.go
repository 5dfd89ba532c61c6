package cluster_test

import (
	"os"
	"testing"

	"github.com/okd-project/okd-streams/internal/e2e/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }
