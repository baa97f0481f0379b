package snapshot_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// scene is an archive with two snapshots that two keys must sign, before somebody
// attacks it, and what he has to do it with.
type scene struct {
	t        *testing.T
	service  *service
	one, two manifest.Signer // the archive's keys
	stranger manifest.Signer // a key the policy does not know
	id       manifest.Hash
	objects  map[string][]byte
	first    snapshot.Entry
	last     snapshot.Entry
	other    map[string][]byte // another archive of the same table, with other keys
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, service: newService(t), one: newKey(t), two: newKey(t), stranger: newKey(t)}
	fillPlain(t, s.service.client("source"), "plain", 600)
	fillPlain(t, s.service.client("source"), "more", 10)
	a := s.archive(s.one, s.two)
	s.id = a.Trust.Archive
	s.first, s.last = s.export(a, s.one, s.two), s.export(a, s.one, s.two)
	s.objects = contents(t, a.Store)
	own := newKey(t)
	b := s.archive(own, s.stranger)
	s.export(b, own, s.stranger)
	s.other = contents(t, b.Store)
	if len(s.chunks()) < 3 {
		t.Fatalf("only %d chunks", len(s.chunks()))
	}
	return s
}

func (s *scene) archive(keys ...manifest.Signer) *snapshot.Archive {
	s.t.Helper()
	store := new(archivetest.Memory)
	return open(s.t, store, initiate(s.t, store, snapshot.Setup{}, policyOf(2, keys...), keys...).Trust)
}

func (s *scene) export(to *snapshot.Archive, keys ...manifest.Signer) snapshot.Entry {
	s.t.Helper()
	run := exporting(s.t, s.service, to, nil, "plain", "more")
	run.Signers = keys
	e, err := first(run.Run(s.t.Context()))
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// seen is the trust of a reader who saw the archive up to manifest seq.
func (s *scene) seen(seq int64) manifest.Trust {
	trust := manifest.Trust{Archive: s.id}
	for _, e := range []snapshot.Entry{s.first, s.last} {
		if e.Manifest.Seq <= seq {
			trust.Seq, trust.Head = e.Manifest.Seq, e.Digest
		}
	}
	return trust
}

// The names of objects of the last snapshot.
func (s *scene) page() string { return manifest.PageName(s.last.Manifest.Snapshot, "plain", 0) }
func (s *scene) plan() string { return manifest.PlanName(s.last.Manifest.Snapshot) }
func (s *scene) newest() string {
	return manifest.ManifestName(2)
}

func (s *scene) chunks() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.objects)), func(name string) bool {
		return !strings.HasPrefix(name, "snapshots/"+s.last.Manifest.Snapshot+"/plain/") || !strings.HasSuffix(name, ".parquet")
	})
}

// before is the name of the same object in the snapshot before.
func (s *scene) before(name string) string {
	return strings.Replace(name, s.last.Manifest.Snapshot, s.first.Manifest.Snapshot, 1)
}

// put returns the archive with other objects in it; nil stands for one removed.
func (s *scene) put(changes map[string][]byte) map[string][]byte {
	objects := maps.Clone(s.objects)
	for name, data := range changes {
		if delete(objects, name); data != nil {
			objects[name] = data
		}
	}
	return objects
}

// bytes changes one object.
func (s *scene) bytes(name string, change func([]byte) []byte) map[string][]byte {
	return s.put(map[string][]byte{name: change(bytes.Clone(s.objects[name]))})
}

// envelope is a DSSE envelope, by hand.
type envelope struct {
	PayloadType string       `json:"payloadType"`
	Payload     string       `json:"payload"`
	Signatures  []dsseSigned `json:"signatures"`
}

type dsseSigned struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

func (s *scene) unseal(name string) (envelope, string) {
	s.t.Helper()
	var e envelope
	if err := json.Unmarshal(s.objects[name], &e); err != nil {
		s.t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		s.t.Fatal(err)
	}
	return e, string(payload)
}

// signed returns a signature as envelopes have it.
func (s *scene) signed(payloadType, payload string, by manifest.Signer) dsseSigned {
	s.t.Helper()
	message := fmt.Sprintf("DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	sig, err := by.Sign(s.t.Context(), []byte(message))
	if err != nil {
		s.t.Fatal(err)
	}
	return dsseSigned{KeyID: by.Key().ID().String(), Sig: base64.StdEncoding.EncodeToString(sig)}
}

// seal signs a payload that need not keep any rule.
func (s *scene) seal(payloadType, payload string, by ...manifest.Signer) []byte {
	s.t.Helper()
	e := envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString([]byte(payload))}
	for _, k := range by {
		e.Signatures = append(e.Signatures, s.signed(payloadType, payload, k))
	}
	return s.json(e)
}

func (s *scene) json(v any) []byte {
	s.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// resigned changes the payload of the newest manifest and signs it again.
func (s *scene) resigned(old, new string, by ...manifest.Signer) map[string][]byte {
	s.t.Helper()
	e, payload := s.unseal(s.newest())
	return s.put(map[string][]byte{s.newest(): s.seal(e.PayloadType, s.replaced(payload, old, new), by...)})
}

// replaced replaces the first match of a pattern, which there must be.
func (s *scene) replaced(text, pattern, by string) string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	at := re.FindStringSubmatchIndex(text)
	if at == nil {
		s.t.Fatalf("no %q to replace", pattern)
	}
	return text[:at[0]] + string(re.ExpandString(nil, by, text, at)) + text[at[1]:]
}

// resignedPage changes the payload of a page, and names it in the newest manifest
// as it is then, with all keys: what a hostile or broken exporter can do.
func (s *scene) resignedPage(old, new string) map[string][]byte {
	s.t.Helper()
	e, payload := s.unseal(s.page())
	return s.namedPage(s.seal(e.PayloadType, s.replaced(payload, old, new), s.one))
}

func (s *scene) namedPage(page []byte) map[string][]byte {
	s.t.Helper()
	ref := s.last.Manifest.Tables[1].Pages[0]
	m, statement := s.unseal(s.newest())
	statement = strings.ReplaceAll(statement, ref.SHA256.String(), manifest.Sum(page).String())
	statement = s.replaced(statement, fmt.Sprintf(`"size":%d,`, ref.Size), fmt.Sprintf(`"size":%d,`, len(page)))
	return s.put(map[string][]byte{s.page(): page, s.newest(): s.seal(m.PayloadType, statement, s.one, s.two)})
}

// envelope changes the envelope of the newest manifest.
func (s *scene) envelope(change func(e *envelope, payload string)) map[string][]byte {
	e, payload := s.unseal(s.newest())
	change(&e, payload)
	return s.put(map[string][]byte{s.newest(): s.json(e)})
}

// text changes the text of the newest manifest's envelope.
func (s *scene) text(old, new string) map[string][]byte {
	return s.bytes(s.newest(), func(data []byte) []byte { return []byte(s.replaced(string(data), old, new)) })
}

// attack is something done to an archive, and how it is refused.
type attack struct {
	name string
	seen int64 // what the reader's trust file has seen; what all keys sign can be no rollback to be refused as such
	want error // nil: it is not seen, and that is known
	exit int   // of otsnap verify and otsnap restore
	do   func(s *scene) map[string][]byte
}

// attacks are those of whoever can write to the bucket, or holds keys as well.
func attacks() []attack {
	const untrusted, rollback, missing, corrupt, limit, format = 10, 11, 12, 13, 15, 16
	return slices.Concat([]attack{
		// Objects.
		{"a chunk with its first bit flipped", 2, archive.ErrCorrupt, corrupt, onChunk(func(b []byte) []byte { b[0] ^= 1; return b })},
		{"a chunk with a bit flipped in its middle", 2, archive.ErrCorrupt, corrupt, onChunk(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })},
		{"a chunk with its last bit flipped", 2, archive.ErrCorrupt, corrupt, onChunk(func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b })},
		{"a chunk without its last byte", 2, archive.ErrCorrupt, corrupt, onChunk(func(b []byte) []byte { return b[:len(b)-1] })},
		{"a chunk with a byte too many", 2, archive.ErrCorrupt, corrupt, onChunk(func(b []byte) []byte { return append(b, 0) })},
		{"an empty chunk", 2, archive.ErrCorrupt, corrupt, onChunk(func([]byte) []byte { return []byte{} })},
		{"a chunk deleted", 2, snapshot.ErrMissing, missing, onChunk(func([]byte) []byte { return nil })},
		{"two chunks swapped", 2, archive.ErrCorrupt, corrupt, func(s *scene) map[string][]byte {
			a, b := s.chunks()[0], s.chunks()[1]
			return s.put(map[string][]byte{a: s.objects[b], b: s.objects[a]})
		}},
		{"a chunk of the snapshot before", 2, archive.ErrCorrupt, corrupt, fromBefore(func(s *scene) string { return s.chunks()[0] })},
		{"a page of the snapshot before", 2, archive.ErrCorrupt, corrupt, fromBefore((*scene).page)},
		{"the plan of the snapshot before", 2, archive.ErrCorrupt, corrupt, fromBefore((*scene).plan)},
		{"a page deleted", 2, snapshot.ErrMissing, missing, func(s *scene) map[string][]byte { return s.put(map[string][]byte{s.page(): nil}) }},
		{"the page of another table", 2, archive.ErrCorrupt, corrupt, func(s *scene) map[string][]byte {
			return s.put(map[string][]byte{s.page(): s.objects[manifest.PageName(s.last.Manifest.Snapshot, "more", 0)]})
		}},
		{"the last chunk dropped from a page by a stolen key", 2, archive.ErrCorrupt, corrupt, func(s *scene) map[string][]byte {
			e, payload := s.unseal(s.page())
			lines := strings.SplitAfter(payload, "\n")
			return s.put(map[string][]byte{s.page(): s.seal(e.PayloadType, strings.Join(lines[:len(lines)-2], ""), s.one)})
		}},

		// Manifests.
		{"a manifest edited", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.envelope(func(e *envelope, payload string) {
				e.Payload = base64.StdEncoding.EncodeToString([]byte(s.replaced(payload, `"rows":\d`, `"rows":9`)))
			})
		}},
		{"a manifest signed again by one of two", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte { return s.resigned(`otsnap test`, `otsnap tes7`, s.one) }},
		{"a manifest signed by one of two and a stranger", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.resigned(`otsnap test`, `otsnap tes7`, s.one, s.stranger)
		}},
		{"a hole in the chain", 2, snapshot.ErrMissing, missing, func(s *scene) map[string][]byte { return s.put(map[string][]byte{manifest.ManifestName(1): nil}) }},
		{"two manifests swapped", 2, manifest.ErrRollback, rollback, func(s *scene) map[string][]byte {
			a, b := manifest.ManifestName(1), manifest.ManifestName(2)
			return s.put(map[string][]byte{a: s.objects[b], b: s.objects[a]})
		}},
		{"the first manifest in place of the second", 2, manifest.ErrRollback, rollback, manifestAt(2, 1)},
		{"the first manifest played again as the third", 2, manifest.ErrRollback, rollback, manifestAt(3, 1)},
		{"the second manifest played again as the third", 2, manifest.ErrRollback, rollback, manifestAt(3, 2)},
		{"a manifest of another archive", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.put(map[string][]byte{manifest.ManifestName(3): s.other[manifest.ManifestName(1)]})
		}},
		{"a manifest of another archive signed by this one's keys", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.resigned(`"archive":"[0-9a-f]{64}"`, `"archive":"`+strings.Repeat("ab", 32)+`"`, s.one, s.two)
		}},

		// The tail, and forks: only who remembers can tell.
		{"the newest snapshot hidden, and one was seen", 1, nil, 0, func(s *scene) map[string][]byte { return s.put(map[string][]byte{s.newest(): nil}) }},
		{"the newest snapshot hidden, and it was seen", 2, manifest.ErrRollback, rollback, func(s *scene) map[string][]byte { return s.put(map[string][]byte{s.newest(): nil}) }},
		{"all snapshots hidden", 1, manifest.ErrRollback, rollback, func(s *scene) map[string][]byte {
			return s.put(map[string][]byte{manifest.ManifestName(1): nil, manifest.ManifestName(2): nil})
		}},
		{"a fork by all keys, and it was not seen before", 1, nil, 0, func(s *scene) map[string][]byte { return s.resigned(`otsnap test`, `otsnap tes7`, s.one, s.two) }},
		{"a fork by all keys, and the other was seen", 2, manifest.ErrRollback, rollback, func(s *scene) map[string][]byte {
			return s.resigned(`otsnap test`, `otsnap tes7`, s.one, s.two)
		}},
		{"a manifest that follows another", 1, manifest.ErrRollback, rollback, func(s *scene) map[string][]byte {
			return s.resigned(`"prev":"[0-9a-f]{64}"`, `"prev":"`+strings.Repeat("ab", 32)+`"`, s.one, s.two)
		}},

		// The policy.
		{"another archive in place of this one", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte { return s.other }},
		{"a policy with a lower threshold", 2, manifest.ErrUntrusted, untrusted, onPolicy(func(s *scene, payload string) string { return s.replaced(payload, `"threshold":2`, `"threshold":1`) })},
		{"a policy that trusts a stranger", 2, manifest.ErrUntrusted, untrusted, onPolicy(func(s *scene, payload string) string {
			spki := func(k manifest.Signer) string { return base64.StdEncoding.EncodeToString(k.Key().SPKI()) }
			return strings.Replace(payload, spki(s.two), spki(s.stranger), 1)
		})},
		{"a next policy signed by one stolen key", 2, manifest.ErrUntrusted, untrusted, nextPolicy(func(s *scene) []manifest.Signer { return []manifest.Signer{s.one} })},
		{"a next policy signed by the keys it brings", 2, manifest.ErrUntrusted, untrusted, nextPolicy(func(s *scene) []manifest.Signer { return []manifest.Signer{s.one, s.stranger} })},
		{"the policy deleted", 2, fs.ErrNotExist, rollback, func(s *scene) map[string][]byte { return s.put(map[string][]byte{manifest.PolicyName(1): nil}) }},
	}, envelopeAttacks(), signedAttacks())
}

// envelopeAttacks are on how signatures are written down.
func envelopeAttacks() []attack {
	const untrusted, rollback, corrupt, limit = 10, 11, 13, 15
	return []attack{
		{"one signature of two removed", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.envelope(func(e *envelope, _ string) { e.Signatures = e.Signatures[:1] })
		}},
		{"one signature twice", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.envelope(func(e *envelope, _ string) { e.Signatures[1] = e.Signatures[0] })
		}},
		{"one signature under the id of both keys", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.envelope(func(e *envelope, _ string) { e.Signatures[1].Sig = e.Signatures[0].Sig })
		}},
		{"a stranger's signature under a trusted id", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.envelope(func(e *envelope, payload string) {
				e.Signatures[1].Sig = s.signed(e.PayloadType, payload, s.stranger).Sig
			})
		}},
		{"an algorithm named in the envelope", 2, manifest.ErrInvalid, corrupt, func(s *scene) map[string][]byte { return s.text(`"keyid"`, `"alg":"none","keyid"`) }},
		{"a second payload", 2, manifest.ErrInvalid, corrupt, func(s *scene) map[string][]byte { return s.text(`"payload":`, `"payload":"e30=","payload":`) }},
		{"a second payload in capitals", 2, manifest.ErrInvalid, corrupt, func(s *scene) map[string][]byte { return s.text(`"payload":`, `"PAYLOAD":"e30=","payload":`) }},
		{"base64 with line breaks", 2, manifest.ErrInvalid, corrupt, func(s *scene) map[string][]byte { return s.text(`"payload":"(.{64})`, `"payload":"$1\n`) }},
		{"a page in place of a manifest", 2, manifest.ErrInvalid, corrupt, func(s *scene) map[string][]byte { return s.put(map[string][]byte{s.newest(): s.objects[s.page()]}) }},
		{"a page that is called a manifest", 2, manifest.ErrUntrusted, untrusted, func(s *scene) map[string][]byte {
			return s.envelope(func(e *envelope, _ string) {
				page, _ := s.unseal(s.page())
				e.Payload, e.Signatures = page.Payload, page.Signatures
			})
		}},
		{"seventeen signatures", 2, manifest.ErrLimit, limit, func(s *scene) map[string][]byte {
			return s.envelope(func(e *envelope, _ string) { e.Signatures = append(make([]dsseSigned, 15), e.Signatures...) })
		}},
		{"a million signatures", 2, manifest.ErrLimit, limit, func(s *scene) map[string][]byte {
			return s.text(`"signatures":\[`, `"signatures":[`+strings.Repeat(`{"keyid":"","sig":""},`, 1_000_000))
		}},
		{"a useless signature beside the good ones", 2, manifest.ErrRollback, rollback, func(s *scene) map[string][]byte {
			return s.text(`"signatures":\[`, `"signatures":[{"keyid":"","sig":""},`)
		}},
	}
}

// signedAttacks have the signatures of all keys: who holds them, or made them sign,
// must not break a reader, nor let two readers see different things.
func signedAttacks() []attack {
	const corrupt, limit, format = 13, 15, 16
	page := func(old, new string) func(s *scene) map[string][]byte {
		return func(s *scene) map[string][]byte { return s.resignedPage(old, new) }
	}
	statement := func(old, new string) func(s *scene) map[string][]byte {
		return func(s *scene) map[string][]byte { return s.resigned(old, new, s.one, s.two) }
	}
	const line = `(\n\{"name":"r0000-000000.parquet",.*?)`
	invalid := func(name string, do func(s *scene) map[string][]byte) attack {
		return attack{"signed: " + name, 1, manifest.ErrInvalid, corrupt, do}
	}
	return []attack{
		{"signed: a chunk of 2^40 bytes", 1, manifest.ErrLimit, limit, page(line+`"size":\d+`, `$1"size":1099511627776`)},
		{"signed: a chunk with a row of 4 GiB", 1, manifest.ErrLimit, limit, page(line+`"raw_bytes":\d+`, `$1"raw_bytes":1099511627776`)},
		{"signed: a line of 64 KiB", 1, manifest.ErrLimit, limit, page(line+`"sha256":"`, `$1"sha256":"`+strings.Repeat("0", 64<<10))},
		{"signed: a format to come", 1, manifest.ErrFormat, format, statement(`"predicate":\{"format":1`, `"predicate":{"format":2`)},
		invalid("a chunk of 2^40 rows in kilobytes", page(line+`"rows":\d+`, `$1"rows":1099511627776`)),
		invalid("a negative count", page(line+`"rows":`, `$1"rows":-`)),
		invalid("a count over 2^53", page(line+`"cells":\d+`, `$1"cells":9007199254740993`)),
		invalid("a member twice", page(line+`"rows":`, `$1"rows":1,"rows":`)),
		invalid("a member in capitals", page(line+`"sha256":`, `$1"SHA256":`)),
		invalid("a member in another script", page(line+`"sha256":`, `$1"ſha256":`)),
		invalid("a count as 1e1", page(line+`"rows":\d+`, `$1"rows":1e1`)),
		invalid("a count that is null", page(line+`"rows":\d+`, `$1"rows":null`)),
		invalid("half a surrogate pair", page(`r0000-000000.parquet`, `\ud800`)),
		invalid("a path as the name of a chunk", page(`r0000-000000.parquet`, `../../../policy/00000001.dsse.json`)),
		invalid("a path as a digest", page(line+`"sha256":"[0-9a-f]+"`, `$1"sha256":"../../../../../etc/passwd"`)),
		invalid("a chunk twice", page(`(?s)(\n\{"name":"r0000-000000.parquet"[^\n]*)`, `$1$1`)),
		invalid("chunks that overlap", page(line+`"last":"[0-9a-f]+"`, `$1"last":"ff"`)),
		invalid("totals that do not add up", page(`"totals":\{"chunks":\d+,"rows":`, `${0}1`)),
		invalid("another Merkle root", statement(`"root":"[0-9a-f]{64}"`, `"root":"`+strings.Repeat("ab", 32)+`"`)),
		invalid("a path as the name of a table", statement(`"name":"plain"`, `"name":"../../policy"`)),
		invalid("a terminal escape in the name of a table", statement(`"name":"plain"`, `"name":"\u001b[31mplain"`)),
		invalid("a name that reads from right to left", statement(`"name":"plain"`, `"name":"\u202eplain"`)),
		invalid("a name with a letter of another script", statement(`"name":"plain"`, `"name":"plаin"`)),
		invalid("a terminal escape in the tool", statement(`otsnap test`, `otsnap \u001b]0;owned\u0007`)),
		invalid("a page dropped", statement(`,\{"name":"snapshots/[^{}]*\{[^{}]*\}\}\]`, `]`)),
		{"decoded: rows that are not the chunk's", 1, archive.ErrCorrupt, corrupt, func(s *scene) map[string][]byte {
			return s.consistentPage(line+`"row_digest":"[0-9a-f]{64}"`, `$1"row_digest":"`+strings.Repeat("ab", 32)+`"`)
		}},
		{"decoded: a chunk that is no Parquet", 1, archive.ErrCorrupt, corrupt, func(s *scene) map[string][]byte {
			junk := bytes.Clone(s.objects[s.chunks()[0]])
			copy(junk[len(junk)-64:], bytes.Repeat([]byte{0xff}, 56))
			objects := s.consistentPage(line+`"sha256":"[0-9a-f]{64}"`, `$1"sha256":"`+manifest.Sum(junk).String()+`"`)
			objects[s.chunks()[0]] = junk
			return objects
		}},
	}
}

// consistentPage is resignedPage with a Merkle root that fits.
func (s *scene) consistentPage(old, new string) map[string][]byte {
	s.t.Helper()
	e, payload := s.unseal(s.page())
	payload = s.replaced(payload, old, new)
	objects := s.namedPage(s.seal(e.PayloadType, payload, s.one))
	var tree manifest.Tree
	for _, line := range strings.Split(strings.TrimSuffix(payload, "\n"), "\n")[1:] {
		tree.Add(manifest.LeafHash([]byte(line)))
	}
	for _, name := range s.pages()[1:] {
		_, payload := s.unseal(name)
		for _, line := range strings.Split(strings.TrimSuffix(payload, "\n"), "\n")[1:] {
			tree.Add(manifest.LeafHash([]byte(line)))
		}
	}
	with := *s
	with.objects = objects
	return with.resigned(s.last.Manifest.Tables[1].Root.String(), tree.Root().String(), s.one, s.two)
}

func (s *scene) pages() (names []string) {
	for n := range s.last.Manifest.Tables[1].Pages {
		names = append(names, manifest.PageName(s.last.Manifest.Snapshot, "plain", int64(n)))
	}
	return names
}

func onChunk(change func([]byte) []byte) func(*scene) map[string][]byte {
	return func(s *scene) map[string][]byte { return s.bytes(s.chunks()[0], change) }
}

func fromBefore(name func(*scene) string) func(*scene) map[string][]byte {
	return func(s *scene) map[string][]byte {
		return s.put(map[string][]byte{name(s): s.objects[s.before(name(s))]})
	}
}

func manifestAt(seq, of int64) func(*scene) map[string][]byte {
	return func(s *scene) map[string][]byte {
		return s.put(map[string][]byte{manifest.ManifestName(seq): s.objects[manifest.ManifestName(of)]})
	}
}

func onPolicy(change func(s *scene, payload string) string) func(*scene) map[string][]byte {
	return func(s *scene) map[string][]byte {
		e, payload := s.unseal(manifest.PolicyName(1))
		return s.put(map[string][]byte{manifest.PolicyName(1): s.seal(e.PayloadType, change(s, payload), s.one, s.two)})
	}
}

// nextPolicy puts a second version of the policy there, in which a stranger's key is
// in place of one of the two.
func nextPolicy(by func(*scene) []manifest.Signer) func(*scene) map[string][]byte {
	return func(s *scene) map[string][]byte {
		p := policyOf(2, s.one, s.stranger)
		p.Version, p.Prev, p.From, p.Files = 2, s.id, 3, manifest.FileRefs(manifest.Files())
		e, _ := s.unseal(manifest.PolicyName(1))
		return s.put(map[string][]byte{manifest.PolicyName(2): s.seal(e.PayloadType, string(s.json(p)), by(s)...)})
	}
}

// TestAttacks attacks an archive in every way, and sees to it that verify and
// restore refuse it for the reason named, that nothing is restored, and that the
// program ends with the exit code.
func TestAttacks(t *testing.T) {
	s := newScene(t)
	program := buildProgram(t)
	for i, x := range attacks() {
		t.Run(x.name, func(t *testing.T) {
			objects := x.do(s)
			if maps.EqualFunc(objects, s.objects, bytes.Equal) {
				t.Fatal("nothing is attacked")
			}
			target := fmt.Sprintf("target%d", i)
			s.byLibrary(t, x, objects, target)
			if program != "" {
				s.byProgram(t, x, objects, target, program)
			}
		})
	}
}

// byLibrary verifies and restores.
func (s *scene) byLibrary(t *testing.T, x attack, objects map[string][]byte, target string) {
	t.Helper()
	a, err := snapshot.Open(t.Context(), storeWith(t, objects), s.seen(x.seen))
	if err == nil {
		_, err = snapshot.Verify{Archive: a, Level: snapshot.Rows}.Run(t.Context())
	}
	if !errors.Is(err, x.want) {
		t.Errorf("verify: got %v, want %v", err, x.want)
	}
	if a == nil || x.want == nil {
		return
	}
	_, err = restoring(t, s.service, a, target).Run(t.Context())
	if !errors.Is(err, x.want) {
		t.Errorf("restore: got %v, want %v", err, x.want)
	}
	s.untouched(t, x, target)
}

// untouched makes sure that a restore has made nothing. Of what all keys signed,
// only decoding tells whether it is wrong; then tables are there, as after every
// restore that broke off.
func (s *scene) untouched(t *testing.T, x attack, target string) {
	t.Helper()
	if strings.HasPrefix(x.name, "decoded: ") {
		return
	}
	tables, err := s.service.instance(t, target).Tables(t.Context())
	if err != nil || len(tables) > 0 {
		t.Errorf("restore left tables %v, %v", tables, err)
	}
}

// byProgram does the same with the program, on a directory.
func (s *scene) byProgram(t *testing.T, x attack, objects map[string][]byte, target, program string) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range objects {
		path := filepath.Join(dir, "archive", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "trust"), s.seen(x.seen).Format(), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append(args, "--trust", "trust")...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TABLESTORE_ACCESS_KEY_ID=local", "TABLESTORE_ACCESS_KEY_SECRET=local", "HOME="+dir, "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != x.exit {
			t.Errorf("otsnap %s: exit code %d, want %d: %v\n%s", args[0], got, x.exit, err, out)
		}
		if bytes.ContainsRune(out, '\x1b') || len(out) > 8<<10 {
			t.Errorf("otsnap %s lets an attacker write to the terminal: %q", args[0], out[:min(len(out), 8<<10)])
		}
	}
	run("verify", "archive", "--level", "rows")
	if x.want != nil {
		run("restore", "archive", s.service.url+"?instance="+target+"p")
		s.untouched(t, x, target+"p")
	}
}

// buildProgram builds otsnap, or returns nothing where there is no time for it.
func buildProgram(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		return ""
	}
	program := filepath.Join(t.TempDir(), "otsnap")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/otsnap").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// threat is a row of the threat model: an attacker or a fault, and the tests that
// show what stops it.
type threat struct {
	who   string
	shown []string // names of attacks above, or tests elsewhere as FILE or FILE NAME, from the top of the repository
	later []string // what no test can show yet, and why
}

var threats = []threat{
	{"reads the bucket", []string{"cmd/otsnap/canary_test.go TestNoSecretIsWrittenAnywhere"},
		[]string{"keys and rows are in clear until archives can be encrypted to recipients"}},
	{"flips, cuts, adds to, or deletes a chunk", []string{
		"a chunk with a bit flipped in its middle", "a chunk without its last byte", "a chunk with a byte too many", "a chunk deleted",
		"snapshot/tamper_test.go TestAFlippedBitAnywhereIsRefused", "snapshot/tamper_test.go TestADeletedObjectIsRefusedByName",
		"archive/fetch_test.go TestFetchReadsAtMostOneByteTooMany"}, nil},
	{"swaps chunks, pages or plans between snapshots", []string{
		"two chunks swapped", "a chunk of the snapshot before", "a page of the snapshot before", "the plan of the snapshot before",
		"snapshot/tamper_test.go TestTwoSwappedObjectsAreRefused"}, nil},
	{"edits pages, drops the last one", []string{
		"the last chunk dropped from a page by a stolen key", "signed: a page dropped", "signed: totals that do not add up", "signed: another Merkle root"}, nil},
	{"deletes, reorders, replays manifests", []string{
		"a hole in the chain", "two manifests swapped", "the first manifest in place of the second", "the second manifest played again as the third",
		"manifest/chain_test.go TestChainRefuses"}, nil},
	{"hides by a delete marker, or a newer version on top", []string{
		"snapshot/observe_test.go TestWhatIsLaidOverObjectsIsFound", "snapshot/said_test.go TestWhatIsSaidOfASnapshotIsVerifiedToBeLocked", "cmd/otsnap/compliance_test.go TestComplianceHoldsAgainstRoot",
		"archive/archivetest/versions.go TestVersions"}, nil},
	{"cuts off the tail", []string{
		"the newest snapshot hidden, and one was seen", "the newest snapshot hidden, and it was seen", "all snapshots hidden",
		"snapshot/tamper_test.go TestAShortenedArchiveIsOnlyKnownToWhoSawMore", "cmd/otsnap/trust_test.go TestTrustIsNeverMovedBack",
		"snapshot/anchor_test.go TestOneAnchorShowsACutTail", "snapshot/anchor_test.go TestJunkDoesNotHideAViolatedAnchor", "snapshot/anchor_test.go TestAHeadNamesTheNewestPolicy",
		"cmd/otsnap/testdata/anchor.txtar"}, nil},
	{"mixes archives or tables", []string{
		"another archive in place of this one", "a manifest of another archive", "a manifest of another archive signed by this one's keys", "the page of another table",
		"snapshot/tamper_test.go TestAnArchiveOfAnotherIsUntrusted"}, nil},
	{"steals one signing key", []string{
		"a manifest signed again by one of two", "a manifest signed by one of two and a stranger", "one signature twice", "one signature under the id of both keys",
		"snapshot/tamper_test.go TestOneSignatureOfTwoIsRefusedBeforeAChunkIsRead",
		"manifest/policy_chain_test.go TestNextPolicyNeedsBothThresholds", "manifest/policy_chain_test.go TestARevokedKeyIsNotTakenBack", "manifest/policy_chain_test.go TestOneOfEachGroup",
		"a next policy signed by one stolen key", "a next policy signed by the keys it brings",
		"snapshot/policy_test.go TestPoliciesThatAreRefused", "snapshot/policy_test.go TestAttackerWithTheOldKey", "cmd/otsnap/testdata/policy-stolen.txtar"}, nil},
	{"steals all keys that are needed", []string{
		"a fork by all keys, and it was not seen before", "a fork by all keys, and the other was seen", "snapshot/anchor_test.go TestOneAnchorShowsACutTail",
		"snapshot/timestamp_test.go TestTimestampsCoverEarlierSnapshots", "snapshot/timestamp_test.go TestTimestampsThatAreNone", "snapshot/timestamp_test.go TestAProvenTimeIsRequired",
		"cmd/otsnap/internal/rfc3161/check_test.go TestBadStampsAreRefused", "cmd/otsnap/internal/rfc3161/check_test.go TestEveryByteCounts", "cmd/otsnap/testdata/timestamp.txtar"}, nil},
	{"owns the exporting machine", []string{
		"cmd/otsnap/roles_test.go TestRolesCanDoTheirWorkAndNoMore", "cmd/otsnap/roles_test.go TestPoliciesRemoveNothing", "manifest/policy_test.go TestOnlyExportersSignPagesAndPlans",
		"snapshot/notarize_test.go TestADamagedSnapshotIsNotNotarized", "snapshot/notarize_test.go TestWhatIsNoNotarization",
		"snapshot/notarize_test.go TestARestoreThatRequiresANotary", "cmd/otsnap/testdata/notarize.txtar"}, nil},
	{"signs a malicious manifest", []string{
		"signed: a chunk of 2^40 bytes", "signed: a negative count", "signed: a member twice", "signed: a count as 1e1", "signed: a count that is null", "signed: half a surrogate pair",
		"signed: a path as the name of a chunk", "signed: a path as a digest", "signed: a chunk twice", "signed: chunks that overlap",
		"manifest/golden_test.go TestBadFilesFailWithTheNamedError",
		"archive/claims_test.go TestBoundsThatHideAValueAreRefused", "archive/claims_test.go TestSelectionsOfAChunkThatLies", "archive/claims_test.go TestPagesAreHeldToTheirHeaders"}, nil},
	{"plays tricks with envelopes", []string{
		"a second payload", "a second payload in capitals", "base64 with line breaks", "an algorithm named in the envelope", "a page that is called a manifest",
		"manifest/envelope_test.go TestEnvelopeIsStrict", "manifest/envelope_test.go TestNoDocumentPassesForAnother"}, nil},
	{"a million signatures", []string{"a million signatures", "seventeen signatures", "manifest/envelope_test.go TestUselessSignaturesDenyNothing"}, nil},
	{"Parquet and zstd bombs", []string{
		"archive/read_test.go TestBombsAreNotUnpacked", "archive/chunk_internal_test.go TestZstdUnpacksNoMoreThanAnnounced", "archive/mutation_test.go TestMutatedChunksAsIfSigned"}, nil},
	{"crashes the parser", []string{
		"decoded: a chunk that is no Parquet", "decoded: rows that are not the chunk's", "archive/fuzz_test.go FuzzRead", "archive/selection_test.go FuzzReadSelection",
		"manifest/fuzz_test.go FuzzOpenPage", "manifest/objects_mutation_test.go TestNoMutantOfASignedObjectIsOpened"}, nil},
	{"names in Unicode", []string{
		"signed: a terminal escape in the name of a table", "signed: a name that reads from right to left", "signed: a name with a letter of another script", "signed: a terminal escape in the tool",
		"cmd/otsnap/exit_test.go TestErrorsAreDisarmedAndOneLineEach"}, nil},
	{"the wrong target", []string{
		"snapshot/restore_test.go TestTheSourceIsNotWrittenOverByAccident", "snapshot/restore_test.go TestModesOfARestore", "snapshot/restore_test.go TestAPlanIsWhatIsDone"}, nil},
	{"a restore revives erased people", []string{
		"snapshot/suppress_test.go TestErasedPeopleDoNotComeBack", "snapshot/suppress_test.go TestErasedSeriesDoNotComeBack", "snapshot/suppress_test.go TestErasedPeopleGetNoNewKeys",
		"snapshot/suppress_test.go TestErasedPeopleInTheTarget", "snapshot/suppress_test.go TestSomebodyWhoComesBackWhileRestoringIsADifference",
		"snapshot/suppress_test.go TestAPlanCoversItsLists", "snapshot/suppress_test.go TestListsThatAreWrong", "snapshot/suppress_test.go TestNoListIsWrittenAnywhere",
		"cmd/otsnap/testdata/suppress.txtar"}, nil},
	{"clocks that lie", []string{"snapshot/attacks_test.go TestTheClockHasNoSayInAVerdict", "snapshot/retain_test.go TestABucketCountsByItsOwnClock",
		"manifest/policy_chain_test.go TestPolicyInForceDecides", "manifest/policy_chain_test.go TestRevocationReachesBack"}, nil},
	{"a network that lies", []string{
		"snapshot/tamper_test.go TestTroubleWithTheStoreIsNoVerdict", "snapshot/tamper_test.go TestANetworkThatFailsIsNoJunk", "cmd/otsnap/network_test.go TestMainJobThroughABadNetwork"}, nil},
}

// TestEveryThreatHasATest makes sure that what the threat model promises is shown,
// and that what is not yet is not forgotten.
func TestEveryThreatHasATest(t *testing.T) {
	known := map[string]bool{}
	for _, x := range attacks() {
		if known[x.name] {
			t.Errorf("two attacks are called %q", x.name)
		}
		known[x.name] = true
	}
	for _, row := range threats {
		t.Run(row.who, func(t *testing.T) {
			for _, test := range row.shown {
				if !known[test] && !isTest(test) {
					t.Errorf("there is no test %q", test)
				}
			}
			for _, what := range row.later {
				t.Run("later", func(t *testing.T) { t.Skip(what) })
			}
		})
	}
}

// isTest reports whether the repository has the test: a script, or a function in a
// file.
func isTest(test string) bool {
	file, name, _ := strings.Cut(test, " ")
	text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(file)))
	return err == nil && (strings.HasSuffix(file, ".txtar") || bytes.Contains(text, []byte("\nfunc "+name+"(")))
}

// TestTheClockHasNoSayInAVerdict: what is signed has no date to expire on.
func TestTheClockHasNoSayInAVerdict(t *testing.T) {
	v := newVictim(t)
	for _, years := range []int{-10, 10, 100} {
		now := func() time.Time { return time.Now().AddDate(years, 0, 0) }
		a := open(t, storeWith(t, v.objects), v.trust)
		if _, err := (snapshot.Verify{Archive: a, Level: snapshot.Rows, Now: now}).Run(t.Context()); err != nil {
			t.Errorf("%d years from now: %v", years, err)
		}
	}
}
