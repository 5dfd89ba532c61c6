package s3store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/logging"
)

// shared reads keys and region from files of the AWS tools. The one file that
// is named may be of either kind: they differ in how they write the names of
// profiles, and are both read as both.
func shared(ctx context.Context, region, path, profile string) (aws.Config, error) {
	if profile == "" {
		profile = "default"
	}
	info, err := os.Stat(path)
	if err != nil {
		return aws.Config{}, fmt.Errorf("credentials file: %w", err)
	}
	configs, secrets := []string{path}, []string{path}
	if info.IsDir() {
		// The SDK passes over what is missing.
		configs, secrets = []string{filepath.Join(path, "config")}, []string{filepath.Join(path, "credentials")}
	}
	found, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
		o.ConfigFiles, o.CredentialsFiles, o.Logger = configs, secrets, logging.Nop{}
	})
	if err != nil {
		return aws.Config{}, fmt.Errorf("credentials file %s: %w", path, err)
	}
	if !found.Credentials.HasKeys() {
		return aws.Config{}, fmt.Errorf("credentials file %s: profile %q has no keys: %w", path, profile, errors.ErrUnsupported)
	}
	if region == "" {
		region = found.Region
	}
	keys := found.Credentials
	return aws.Config{
		Region:      region,
		Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)),
	}, nil
}
