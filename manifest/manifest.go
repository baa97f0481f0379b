// Package manifest defines the signed statement that makes a set of objects a
// snapshot. A snapshot exists if and only if its manifest does.
//
// An archive has a [Policy], which says who may sign in it and whose digest is
// the archive's name; a chain of manifests, one a snapshot; and for every snapshot
// a [Plan] and pages that list its chunks. Each is a document in a DSSE envelope.
// Only the Open functions turn stored bytes into documents: they check the
// signatures first, then that every reader reads the same document, then that the
// document makes sense. FORMAT.md describes the format for readers in other
// languages.
package manifest

import (
	"context"
	"encoding/json"
	"fmt"
)

// The types of an in-toto Statement and of what a manifest states in it.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://github.com/otsnap/otsnap/manifest/v1"
)

// statement is an in-toto Statement v1 about the pages of a snapshot.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Manifest  `json:"predicate"`
}

type subject struct {
	Name   string `json:"name"`
	Digest struct {
		SHA256 Hash `json:"sha256"`
	} `json:"digest"`
}

// subjects returns what m is about: its pages, in order.
func (m *Manifest) subjects() []subject {
	var all []subject
	for _, t := range m.Tables {
		for _, ref := range t.Pages {
			s := subject{Name: PageName(m.Snapshot, t.Table.Name, ref.Range)}
			s.Digest.SHA256 = ref.SHA256
			all = append(all, s)
		}
	}
	return all
}

// Seal validates m and signs it. Whether the signatures meet the policy's
// threshold is the business of [Policy.Check].
func Seal(ctx context.Context, m *Manifest, signers ...Signer) ([]byte, error) {
	payload, err := m.payload()
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	sealed, err := manifestKind.seal(ctx, payload, signers)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return sealed, nil
}

func (m *Manifest) payload() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	payload, err := encode(statement{
		Type:          statementType,
		Subject:       m.subjects(),
		PredicateType: predicateType,
		Predicate:     *m,
	})
	if err != nil {
		return nil, invalid("%w", err)
	}
	return payload, nil
}

// Open returns the manifest in sealed: one that belongs to p's archive, that keeps
// every rule, that names the version of the policy in force for its number, and
// that as many of this version's keys signed as it asks for. p is the newest
// version there is.
func Open(sealed []byte, p *Policy) (*Manifest, error) {
	m, err := open(sealed, p)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

func open(sealed []byte, p *Policy) (*Manifest, error) {
	m, _, known, err := judge(sealed, p)
	if err == nil && !known {
		err = untrusted("manifest %d was made under policy %s, which is none of the %d there are", m.Seq, m.Policy, p.Version)
	}
	return m, err
}

// judge opens a manifest, and reports which keys that count signed it, and whether the
// policy it names is known. One that names another and is signed as it must be comes
// from after p.
func judge(sealed []byte, p *Policy) (m *Manifest, by []trustedKey, known bool, err error) {
	if _, err := p.opened(); err != nil {
		return nil, nil, false, err
	}
	o, err := manifestKind.open(sealed)
	if err != nil {
		return nil, nil, false, err
	}
	if err := p.plausible(o); err != nil {
		return nil, nil, false, err
	}
	if m, err = parseManifest(o.payload); err != nil {
		return nil, nil, false, err
	}
	if err := p.governs(m.Archive); err != nil {
		return nil, nil, false, err
	}
	by, known, err = p.judge(m, o)
	return m, by, known, err
}

func parseManifest(payload []byte) (*Manifest, error) {
	var s statement
	if err := decode(payload, &s); err != nil {
		var head struct {
			Predicate json.RawMessage `json:"predicate"`
		}
		if json.Unmarshal(payload, &head) == nil {
			if other := checkFormat(head.Predicate); other != nil {
				return nil, other
			}
		}
		return nil, invalid("%w", err)
	}
	if err := checkFormatNumber(s.Predicate.Format); err != nil {
		return nil, err
	}
	if s.Type != statementType || s.PredicateType != predicateType {
		return nil, invalid("a statement of type %q about %q", clip(s.Type), clip(s.PredicateType))
	}
	if err := s.Predicate.Validate(); err != nil {
		return nil, err
	}
	return &s.Predicate, checkSubjects(s.Subject, s.Predicate.subjects())
}

func checkSubjects(found, want []subject) error {
	if len(found) != len(want) {
		return invalid("%d subjects for %d pages", len(found), len(want))
	}
	for i := range want {
		if found[i] != want[i] {
			return invalid("subject %q is not page %s", clip(found[i].Name), want[i].Name)
		}
	}
	return nil
}

// CheckRoot checks the tree over the lines of all the table's pages, in order,
// against what the manifest signed: the number of leaves and their root.
func (t TableEntry) CheckRoot(tree *Tree) error {
	if tree.Size() != t.Totals.Chunks || tree.Root() != t.Root {
		return fmt.Errorf("manifest: table %s: %w", t.Table.Name, invalid("%d chunks with root %s, want %d with %s",
			tree.Size(), tree.Root(), t.Totals.Chunks, t.Root))
	}
	return nil
}
