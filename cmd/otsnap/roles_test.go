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
	"github.com/otsnap/otsnap/archive/oss/osstest"
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
	notary := filepath.Join(c.dir, "notary.pem")
	c.must("key", "gen", "--out", notary)
	c.must("init", archive, "--key", key, "--notary", notary+".pub", "--retain", "2d", "--lock", "compliance")
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
		{"list", []string{"list", archive}, map[string]int{"exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok, "notary": ok}},
		{"export", []string{"export", c.source, archive, "--key", key}, map[string]int{"exporter": ok, "verifier": denied, "restorer": denied, "retention-officer": denied, "notary": denied}},
		{"verify", []string{"verify", archive, "--level", "rows", "--retention"}, map[string]int{"exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok, "notary": ok}},
		{"notarize", []string{"notarize", archive, "--key", notary}, map[string]int{"verifier": denied, "restorer": denied, "notary": ok}},
		{"restore", []string{"restore", archive, c.target + "ROLE"}, map[string]int{"verifier": ok, "restorer": ok}},
		{"lock show", []string{"lock", "show", archive}, map[string]int{"exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok, "notary": ok}},
		{"lock extend", []string{"lock", "extend", archive, "--retain", "3d", "--lock", "compliance"}, map[string]int{"verifier": denied, "notary": denied, "restorer": denied, "retention-officer": ok}},
		{"lock hold", []string{"lock", "hold", archive}, map[string]int{"exporter": denied, "notary": denied, "verifier": denied, "restorer": denied, "retention-officer": ok}},
		{"lock hold --off", []string{"lock", "hold", archive, "--off"}, map[string]int{"retention-officer": ok}},
	}
	for _, role := range []string{"exporter", "verifier", "restorer", "notary", "retention-officer"} {
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

// TestRAMRolesCanDoTheirWorkAndNoMore does the same with the files for RAM, on a
// server that asks a function in place of RAM. The names of actions are those in
// RAM's documents; conditions are not looked at.
func TestRAMRolesCanDoTheirWorkAndNoMore(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the whole job")
	}
	c := newClouds(t, s3test.VersityGW, sample.Movies)
	archive := c.oss("vault")
	key := filepath.Join(c.dir, "key.pem")
	c.must("key", "gen", "--out", key)
	notary := filepath.Join(c.dir, "notary.pem")
	c.must("key", "gen", "--out", notary)
	c.must("init", archive, "--key", key, "--notary", notary+".pub")
	c.must("export", c.source, archive, "--key", key)
	const (
		ok     = 0
		denied = 20
	)
	export := []string{"export", c.source, archive, "--key", key, "--read-back", "all"}
	commands := []struct {
		args []string
		want map[string]int
	}{
		{[]string{"list", archive}, map[string]int{"auditor": ok, "exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok, "notary": ok}},
		{export, map[string]int{"auditor": denied, "exporter": ok, "verifier": denied, "restorer": denied, "retention-officer": denied, "notary": denied}},
		{[]string{"verify", archive, "--level", "rows", "--retention"}, map[string]int{"exporter": ok, "verifier": ok, "restorer": ok, "retention-officer": ok, "notary": ok}},
		{[]string{"notarize", archive, "--key", notary}, map[string]int{"verifier": denied, "restorer": denied, "notary": ok}},
		{[]string{"verify", archive, "--record", "--receipt-key", key}, map[string]int{"auditor": ok, "exporter": ok, "verifier": denied}},
		{[]string{"restore", archive, c.target + "ROLE"}, map[string]int{"verifier": ok, "restorer": ok}},
		{[]string{"lock", "bucket", archive}, map[string]int{"exporter": ok, "verifier": ok, "retention-officer": ok}},
		{[]string{"lock", "bucket", archive, "--create", "3"}, map[string]int{"exporter": denied, "notary": denied, "verifier": denied, "restorer": denied, "retention-officer": ok}},
		{[]string{"lock", "bucket", archive, "--complete", "--yes"}, map[string]int{"retention-officer": ok}},
	}
	// The officer comes last: what she locks stays so for the others.
	for _, role := range []string{"exporter", "auditor", "verifier", "restorer", "notary", "retention-officer"} {
		t.Run(role, func(t *testing.T) {
			c.t = t
			policy := parsePolicy(t, policyFile(t, "ram", role, "vault", "shop"))
			c.alibaba.AddCredentials(osstest.Credentials{AccessKeyID: role, AccessKeySecret: role + "-secret", Allow: policy.allows})
			c.env = []string{
				"XDG_CONFIG_HOME=" + filepath.Join(c.dir, "config"),
				"ALIBABA_CLOUD_ACCESS_KEY_ID=" + role, "ALIBABA_CLOUD_ACCESS_KEY_SECRET=" + role + "-secret",
			}
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
					t.Errorf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, out)
				}
			}
			for _, action := range []string{"oss:DeleteObject", "oss:DeleteObjectVersion", "oss:DeleteBucket", "oss:PutBucketVersioning"} {
				for _, resource := range []string{"acs:oss:*:*:vault", "acs:oss:*:*:vault/shop/README.md"} {
					if policy.allows(action, resource) {
						t.Errorf("may %s on %s", action, resource)
					}
				}
			}
			if policy.allows("oss:GetObject", "acs:oss:*:*:vault/elsewhere/README.md") {
				t.Error("may read what is no part of the archive")
			}
		})
	}
}

// policy is what a policy file says.
type policy struct {
	Statement []struct {
		Effect   string
		Action   texts
		Resource texts
	}
}

// texts is one text or several.
type texts []string

func (s *texts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*s = texts{one}
		return nil
	}
	var all []string
	err := json.Unmarshal(data, &all)
	*s = all
	return err
}

func parsePolicy(t *testing.T, text string) policy {
	t.Helper()
	var p policy
	if err := json.Unmarshal([]byte(text), &p); err != nil || len(p.Statement) == 0 {
		t.Fatalf("policy: %v", err)
	}
	return p
}

// allows is the rule of RAM: denied if a statement denies it, else allowed if one
// allows it.
func (p policy) allows(action, resource string) bool {
	allowed := false
	for _, s := range p.Statement {
		at := slices.ContainsFunc(s.Resource, func(pattern string) bool {
			folder, open := strings.CutSuffix(pattern, "*")
			return pattern == resource || open && strings.HasPrefix(resource, folder)
		})
		if !at || !slices.Contains(s.Action, action) {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

// TestPoliciesRemoveNothing reads every policy there is.
func TestPoliciesRemoveNothing(t *testing.T) {
	files, err := filepath.Glob("dist/*/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d policies, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range parsePolicy(t, string(data)).Statement {
			for _, action := range s.Action {
				if s.Effect == "Allow" && strings.ContainsAny(action, "*") || s.Effect == "Allow" && (strings.Contains(action, "Delete") || strings.Contains(action, "Bypass")) {
					t.Errorf("%s allows %s", file, action)
				}
			}
		}
	}
}
