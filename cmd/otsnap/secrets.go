package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/signer"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot/tablestore"
)

// private reports why a file that holds a secret does not keep it: users of the
// machine beside its owner and group may read it.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return advise(fmt.Errorf("%s is open to every user of this machine (mode %04o)", path, info.Mode().Perm()), "chmod 600 %s", path)
	}
	return nil
}

// signers opens the keys that references name (see [signer.Open]), of which each
// request is tried so long.
func (a *app) signers(ctx context.Context, references []string, giveUpAfter seconds) ([]manifest.Signer, error) {
	var all []manifest.Signer
	for _, reference := range references {
		s, err := signer.Open(ctx, reference, a.signerOptions(giveUpAfter))
		if err != nil {
			return nil, keyError(err)
		}
		if path, isFile := signer.File(reference); isFile {
			if err := private(path); err != nil {
				return nil, labelled{fmt.Errorf("key: %w", err), errKey}
			}
		}
		if slices.ContainsFunc(all, func(o manifest.Signer) bool { return o.Key() == s.Key() }) {
			return nil, misused("the key %s is named twice; one key signs once", reference)
		}
		all = append(all, opening{s})
	}
	return all, nil
}

func (a *app) signerOptions(giveUpAfter seconds) signer.Options {
	return signer.Options{
		Passphrase: a.passphraseOf, GiveUpAfter: giveUpAfter.Duration, OnRetry: a.retried,
		Stderr: a.stderr, Environment: slices.DeleteFunc(os.Environ(), ours),
	}
}

// ours is whether a variable of the environment holds a secret that no program
// which signs has a use for.
func ours(variable string) bool {
	return strings.HasPrefix(variable, "TABLESTORE_") || strings.HasPrefix(variable, passphraseVariable+"=")
}

// opening is a signer whose errors say what to do next.
type opening struct{ manifest.Signer }

func (o opening) Sign(ctx context.Context, message []byte) ([]byte, error) {
	sig, err := o.Signer.Sign(ctx, message)
	return sig, keyError(err)
}

// keyError labels what kept a key from being used.
func keyError(err error) error {
	if err == nil {
		return nil
	}
	var refused *signer.Error
	if errors.As(err, &refused) && refused.Advice != "" {
		err = advise(err, "%s", refused.Advice)
	}
	return labelled{err, errKey}
}

// publicKey reads a public key, or asks one that is elsewhere for its public half.
func (a *app) publicKey(ctx context.Context, reference string, giveUpAfter seconds) (manifest.PublicKey, error) {
	path, isFile := signer.File(reference)
	if !isFile {
		all, err := a.signers(ctx, []string{reference}, giveUpAfter)
		if err != nil {
			return manifest.PublicKey{}, err
		}
		return all[0].Key(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return manifest.PublicKey{}, labelled{fmt.Errorf("key: %w", err), errKey}
	}
	key, err := manifest.ParsePublicPEM(text)
	if err != nil {
		return manifest.PublicKey{}, labelled{fmt.Errorf("key %s: %w", path, err), errKey}
	}
	return key, nil
}

// credentials fills in the access key from the file, if one is named, or else
// from the environment: our own variables, or those of Alibaba Cloud's tools. It
// never mixes them: half of one key and half of another is a riddle for whoever
// is refused.
func (a *app) credentials(c *tablestore.Config, path string) error {
	if path != "" {
		return fromFile(c, path)
	}
	for _, family := range []string{"TABLESTORE_", "ALIBABA_CLOUD_"} {
		id, secret := a.getenv(family+"ACCESS_KEY_ID"), a.getenv(family+"ACCESS_KEY_SECRET")
		if id == "" && secret == "" {
			continue
		}
		if id == "" || secret == "" {
			return misused("of %sACCESS_KEY_ID and %sACCESS_KEY_SECRET only one is set", family, family)
		}
		c.AccessKeyID, c.AccessKeySecret, c.SecurityToken = id, secret, a.getenv(family+"SECURITY_TOKEN")
		return nil
	}
	return advise(misused("there is no access key for instance %s", c.Instance),
		"set TABLESTORE_ACCESS_KEY_ID and TABLESTORE_ACCESS_KEY_SECRET (or ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET), or name a file with --credentials FILE")
}

// fromFile reads an access key from a JSON object or from lines of name=value.
// Names are those of the environment variables, with or without what comes
// before ACCESS_KEY, in any case: AccessKeyId is as good.
func fromFile(c *tablestore.Config, path string) error {
	data, err := os.ReadFile(path)
	if err == nil {
		err = private(path)
	}
	if err != nil {
		return misused("credentials: %w", err)
	}
	fields, err := parseFields(data)
	if err != nil {
		// The cause may quote the file, and with it a secret.
		return misused("credentials file %s: it is neither a JSON object of texts nor lines of name=value", path)
	}
	c.AccessKeyID, c.AccessKeySecret, c.SecurityToken = fields["accesskeyid"], fields["accesskeysecret"], fields["securitytoken"]
	if c.AccessKeyID == "" || c.AccessKeySecret == "" {
		return misused("credentials file %s: it needs access_key_id and access_key_secret", path)
	}
	return nil
}

func parseFields(data []byte) (map[string]string, error) {
	raw := map[string]string{}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		if err := json.Unmarshal(data, &raw); err != nil {
			return nil, err
		}
		return plainNames(raw), nil
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok {
			return nil, errors.New("line without =")
		}
		raw[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	return plainNames(raw), lines.Err()
}

func plainNames(raw map[string]string) map[string]string {
	fields := map[string]string{}
	for name, value := range raw {
		name = strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
		name = strings.TrimPrefix(strings.TrimPrefix(name, "tablestore"), "alibabacloud")
		fields[name] = value
	}
	return fields
}
