package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/otsnap/otsnap/archive/s3/s3test"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
)

// policyFile reads a policy from dist, for one archive.
func policyFile(t *testing.T, cloud, role, bucket, prefix string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("dist", cloud, role+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("BUCKET", bucket, "PREFIX", prefix).Replace(string(text))
}

// as returns credentials of someone who may do what a role's policy allows,
// and nothing else: the server is asked for credentials under that policy.
func (c *clouds) as(s3 *s3test.Server, role, bucket, prefix string) aws.Credentials {
	c.t.Helper()
	service := sts.New(sts.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s3.Endpoint),
		Credentials: credentials.NewStaticCredentialsProvider(s3.AccessKey, s3.SecretKey, ""),
	})
	given, err := service.AssumeRole(c.t.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::000000000000:role/" + role), RoleSessionName: aws.String(role),
		Policy: aws.String(policyFile(c.t, "aws", role, bucket, prefix)),
	})
	if err != nil {
		c.t.Fatalf("assume %s: %v", role, err)
	}
	return aws.Credentials{AccessKeyID: *given.Credentials.AccessKeyId, SecretAccessKey: *given.Credentials.SecretAccessKey, SessionToken: *given.Credentials.SessionToken}
}

// mayRemoveNothing tries to remove an object, and to hide it, with the bare SDK.
func mayRemoveNothing(t *testing.T, s3 *s3test.Server, given aws.Credentials, bucket, key string) {
	t.Helper()
	client := s3sdk.New(s3sdk.Options{
		BaseEndpoint: aws.String(s3.Endpoint), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.StaticCredentialsProvider{Value: given},
	})
	head, err := client.HeadObject(t.Context(), &s3sdk.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		t.Fatal(err)
	}
	for what, version := range map[string]*string{"hide": nil, "remove": head.VersionId} {
		_, err := client.DeleteObject(t.Context(), &s3sdk.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), VersionId: version})
		if err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("%s %s: got %v, want AccessDenied", what, key, err)
		}
	}
}

// TestRolesCanDoTheirWorkAndNoMore runs every command as every role of dist/aws.
// MinIO is the server here that gives credentials under a policy.
func TestRolesCanDoTheirWorkAndNoMore(t *testing.T) {
	if testing.Short() || !slices.Contains(s3Kinds(t), s3test.MinIO) {
		t.Skip("needs MinIO: make test-s3")
	}
	c := newClouds(t, s3test.MinIO, sample.Movies)
	archive := c.s3("locked")
	key := filepath.Join(c.dir, "key.pem")
	c.must("key", "gen", "--out", key)
	c.must("init", archive, "--key", key, "--retain", "2d", "--lock", "compliance")
	c.must("export", c.source, archive, "--key", key)

	const (
		ok     = 0
		denied = 20
	)
	commands := []struct {
		name string
		args []string
		want map[string]int
	}{
		{"list", []string{"list", archive}, map[string]int{"exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok}},
		{"export", []string{"export", c.source, archive, "--key", key}, map[string]int{"exporter": ok, "verifier": denied, "restorer": denied, "retention-officer": denied}},
		{"verify", []string{"verify", archive, "--level", "rows", "--retention"}, map[string]int{"exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok}},
		{"restore", []string{"restore", archive, c.target + "ROLE"}, map[string]int{"verifier": ok, "restorer": ok}},
		{"lock show", []string{"lock", "show", archive}, map[string]int{"exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok}},
		{"lock extend", []string{"lock", "extend", archive, "--retain", "3d", "--lock", "compliance"}, map[string]int{"verifier": denied, "restorer": denied, "retention-officer": ok}},
		{"lock hold", []string{"lock", "hold", archive}, map[string]int{"exporter": denied, "verifier": denied, "restorer": denied, "retention-officer": ok}},
		{"lock hold --off", []string{"lock", "hold", archive, "--off"}, map[string]int{"retention-officer": ok}},
	}
	for _, role := range []string{"exporter", "verifier", "restorer", "retention-officer"} {
		t.Run(role, func(t *testing.T) {
			c.t = t
			given := c.as(c.s3Server, role, "locked", "shop")
			c.env = append(c.env[:0:0], "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"), "AWS_EC2_METADATA_DISABLED=true",
				"AWS_ACCESS_KEY_ID="+given.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+given.SecretAccessKey, "AWS_SESSION_TOKEN="+given.SessionToken)
			mayRemoveNothing(t, c.s3Server, given, "locked", "shop/README.md")
			for _, command := range commands {
				want, tried := command.want[role]
				if !tried {
					continue
				}
				args := slices.Clone(command.args)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "ROLE", role)
				}
				if code, out := exitCode(t, c.killer, args...); code != want {
					t.Errorf("%s: exit code %d, want %d\n%s", command.name, code, want, out)
				}
			}
		})
	}
}

// TestPoliciesAreJSON keeps the files for RAM, which no server here can try, at
// least readable, and free of rights to remove anything.
func TestPoliciesAreJSON(t *testing.T) {
	files, err := filepath.Glob("dist/*/*.json")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d policies, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var policy struct {
			Version   string
			Statement []struct {
				Effect string
				Action json.RawMessage
			}
		}
		if err := json.Unmarshal(data, &policy); err != nil || len(policy.Statement) == 0 {
			t.Errorf("%s: %v", file, err)
		}
		for _, s := range policy.Statement {
			for _, right := range []string{"Delete", "Bypass", "*"} {
				if s.Effect == "Allow" && strings.Contains(string(s.Action), right) {
					t.Errorf("%s allows %s", file, s.Action)
				}
			}
		}
	}
}
