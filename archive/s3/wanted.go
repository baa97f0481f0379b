package s3

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/otsnap/otsnap/archive"
)

// wanted is what is asked for in the headers of a PUT.
type wanted struct {
	class       string
	sse, kmsKey string
	lock        archive.Lock
}

func (s *Store) wanted(opts archive.PutOptions) wanted {
	w := wanted{sse: s.config.SSE, kmsKey: s.config.KMSKey, lock: opts.Lock}
	if opts.Bulk {
		w.class = s.config.Class
	}
	return w
}

func (w wanted) nothing() bool { return w == wanted{} }

func (w wanted) ask(in *s3.PutObjectInput) {
	in.StorageClass = types.StorageClass(w.class)
	in.ServerSideEncryption = types.ServerSideEncryption(w.sse)
	in.SSEKMSKeyId = optional(w.kmsKey)
	if w.lock.Mode != archive.Unlocked {
		in.ObjectLockMode = types.ObjectLockMode(strings.ToUpper(string(w.lock.Mode)))
		in.ObjectLockRetainUntilDate = aws.Time(w.lock.Until.UTC())
	}
	if w.lock.Hold {
		in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn
	}
}

// missing says in words what was asked for and is not to be seen.
func (w wanted) missing(info archive.Info) []string {
	var missing []string
	if w.class != "" && !strings.EqualFold(w.class, info.Class) {
		missing = append(missing, fmt.Sprintf("asked for storage class %s, the server keeps it in %s", w.class, info.Class))
	}
	if w.sse != "" && !w.encrypted(info.Encryption) {
		asked := strings.TrimSpace(w.sse + " " + w.kmsKey)
		found := info.Encryption
		if found == "" {
			found = "none"
		}
		missing = append(missing, fmt.Sprintf("asked for encryption %s, the server says %s", asked, found))
	}
	if !info.Lock.Covers(w.lock) {
		missing = append(missing, fmt.Sprintf("asked for a lock of %s, the server has %s", describe(w.lock), describe(info.Lock)))
	}
	return missing
}

// encrypted compares with what [encryption] wrote. A key's id and its ARN name
// the same key; an alias cannot be compared.
func (w wanted) encrypted(found string) bool {
	sse, key, _ := strings.Cut(found, " ")
	if sse != w.sse {
		return false
	}
	return w.kmsKey == "" || key == w.kmsKey || strings.HasSuffix(key, "/"+w.kmsKey) || strings.HasSuffix(key, ":"+w.kmsKey) ||
		strings.Contains(w.kmsKey, "alias/") && key != ""
}

// describe is a lock in words.
func describe(l archive.Lock) string {
	text := "no retention"
	if l.Mode != archive.Unlocked {
		text = fmt.Sprintf("%s until %s", l.Mode, l.Until.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if l.Hold {
		text += " and a legal hold"
	}
	return text
}

// refusal finds what was asked for in the words with which the server refused it.
func (w wanted) refusal(err error) error {
	asked := w.refused(err)
	if asked == "" {
		return err
	}
	return &explained{fmt.Sprintf("the server refuses %s: %s", asked, brief(err)), errors.Join(err, errors.ErrUnsupported)}
}

func (w wanted) refused(err error) string {
	var all, named []string
	ask := func(what string, words ...string) {
		all = append(all, what)
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(strings.ToLower(err.Error()), word) }) {
			named = append(named, what)
		}
	}
	if w.lock != (archive.Lock{}) {
		ask("a lock of "+describe(w.lock), "object lock", "objectlock", "object-lock", "retention", "worm")
	}
	if w.class != "" {
		ask("storage class "+w.class, "storage class", "storageclass", "storage-class")
	}
	if w.sse != "" {
		ask("encryption "+strings.TrimSpace(w.sse+" "+w.kmsKey), "encrypt", "kms", "sse")
	}
	switch {
	case denied(err) || len(all) == 0:
		return ""
	case len(named) > 0:
		return strings.Join(named, " and ")
	case unsupported(err) || code(err) == "InvalidArgument" || code(err) == "InvalidRequest":
		return strings.Join(all, " or ")
	}
	return ""
}
