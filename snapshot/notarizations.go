package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/errgroup"
)

// Notarized says how a snapshot was notarized.
type Notarized struct {
	By    []string      `json:"by"`    // names of notaries of the policy
	Level string        `json:"level"` // manifest.NotarizedHashes, manifest.NotarizedRows or AtExport
	At    manifest.Time `json:"at"`
	Name  string        `json:"name"` // of the object with the signature
}

// AtExport is the level of a notary's signature on the manifest itself: it was given
// at the export, and nothing was read again for it.
const AtExport = "manifest"

func (n Notarized) String() string {
	return fmt.Sprintf("by %s (%s, %s)", strings.Join(n.By, ", "), n.Level, n.At)
}

// depth orders what notarizations say, the least first.
func (n Notarized) depth() int {
	return slices.Index([]string{AtExport, manifest.NotarizedHashes, manifest.NotarizedRows}, n.Level)
}

// NotarizedBy is a snapshot with the good notarizations of it.
type NotarizedBy struct {
	Seq           int64       `json:"seq"`
	Snapshot      string      `json:"snapshot"`
	Notarizations []Notarized `json:"notarizations"`
}

// Notarizations returns the good notarizations of a snapshot, an entry of a chain that
// was read: those by notaries that count for it, of this manifest and of all that it
// names. A notary's signature on the manifest itself is one too, and the first. Notes
// say what else is there under their names, and why it is no good: anybody may have put
// it, so it is no error. Not being able to read one is, and no verdict.
func (a *Archive) Notarizations(ctx context.Context, e Entry) (good []Notarized, notes []string, err error) {
	claims, err := a.claims(ctx, manifest.NotarizationsOf(e.Manifest.Seq), e.Manifest.Seq)
	if err != nil {
		return nil, nil, err
	}
	return a.notarizations(ctx, e, claims[e.Manifest.Seq])
}

// NotarizationClaims returns how many objects are named as notarizations of each
// snapshot up to number newest. Nobody has looked at them: they may be anything.
func (a *Archive) NotarizationClaims(ctx context.Context, newest int64) (map[int64]int, error) {
	claims, err := a.claims(ctx, manifest.NotarizationFolder+"/", newest)
	if err != nil {
		return nil, err
	}
	counts := make(map[int64]int, len(claims))
	for seq, attempts := range claims {
		counts[seq] = len(attempts)
	}
	return counts, nil
}

// claims lists what is named as a notarization of a manifest up to newest: the
// attempts of each, in order.
func (a *Archive) claims(ctx context.Context, prefix string, newest int64) (map[int64][]int64, error) {
	claims := map[int64][]int64{}
	for object, err := range a.Store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("snapshot: list notarizations: %w", err)
		}
		if seq, n, ok := manifest.ParseNotarizationName(object.Name); ok && seq <= newest {
			claims[seq] = append(claims[seq], n)
		}
	}
	for _, attempts := range claims {
		slices.Sort(attempts)
	}
	return claims, nil
}

// notarizations reads the attempts to notarize a snapshot, and notes what is none of them.
func (a *Archive) notarizations(ctx context.Context, e Entry, attempts []int64) (good []Notarized, notes []string, err error) {
	good, wrong, err := a.attempts(ctx, e, attempts)
	for i, w := range wrong {
		if i == maxReasons {
			notes = append(notes, fmt.Sprintf("%d more objects named as notarizations of snapshot %d do not count", len(wrong)-i, e.Manifest.Seq))
			break
		}
		notes = append(notes, w.Error())
	}
	return good, notes, err
}

// attempts reads the attempts to notarize a snapshot; wrong says of the others why they
// do not count.
func (a *Archive) attempts(ctx context.Context, e Entry, attempts []int64) (good []Notarized, wrong []error, err error) {
	if len(e.Notaries) > 0 {
		good = append(good, Notarized{e.Notaries, AtExport, e.Manifest.Finished, manifest.ManifestName(e.Manifest.Seq)})
	}
	found := make([]*Notarized, len(attempts))
	wrong = make([]error, len(attempts))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i, n := range attempts {
		group.Go(func() (err error) {
			found[i], wrong[i], err = a.notarization(within, e, n)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, fmt.Errorf("snapshot: notarizations of snapshot %d: %w", e.Manifest.Seq, err)
	}
	for _, f := range found {
		if f != nil {
			good = append(good, *f)
		}
	}
	return good, slices.DeleteFunc(wrong, func(err error) bool { return err == nil }), nil
}

// notarization reads one attempt to notarize a snapshot: wrong says why what is there
// is none. Both are nil if nothing is there.
func (a *Archive) notarization(ctx context.Context, e Entry, n int64) (good *Notarized, wrong, err error) {
	name := manifest.NotarizationName(e.Manifest.Seq, n)
	sealed, err := archive.ReadAll(ctx, a.Store, name, manifest.MaxNotarization)
	switch {
	case isNotExist(err):
		return nil, nil, nil
	case errors.Is(err, manifest.ErrLimit), errors.Is(err, archive.ErrFrozen):
		return nil, fmt.Errorf("%s is no notarization that counts: %w", name, err), nil
	case err != nil:
		return nil, nil, err
	}
	document, by, err := manifest.OpenNotarization(sealed, a.Policy)
	if err == nil {
		err = document.Of(e.Manifest, e.Digest)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is no notarization that counts: %w", name, err), nil
	}
	return &Notarized{by, document.Level, document.Finished, name}, nil, nil
}

// Requirement is what a snapshot must have, beside its signatures, to be read by one
// who asks for it. It returns what it found, for people; that it is not met wraps
// manifest.ErrUntrusted.
type Requirement func(ctx context.Context, a *Archive, e Entry) (met string, err error)

// require checks that a snapshot has all that is asked for, and returns what was found.
func (a *Archive) require(ctx context.Context, e Entry, all []Requirement) ([]string, error) {
	var found []string
	for _, r := range all {
		met, err := r(ctx, a, e)
		if err != nil {
			return nil, err
		}
		found = append(found, met)
	}
	return found, nil
}

// NotNotarizedError says that no notary has notarized a snapshot. It is
// manifest.ErrUntrusted.
type NotNotarizedError struct {
	Seq  int64
	text string
}

func (e *NotNotarizedError) Error() string        { return e.text }
func (e *NotNotarizedError) Is(target error) bool { return target == manifest.ErrUntrusted }

// maxReasons is how many objects that are no good an error names.
const maxReasons = 3

// RequireNotary is the Requirement of one good notarization at least: else it is a
// *NotNotarizedError. If none is good and one is in an archive tier, that is
// archive.ErrFrozen, and no verdict.
func RequireNotary(ctx context.Context, a *Archive, e Entry) (met string, err error) {
	claims, err := a.claims(ctx, manifest.NotarizationsOf(e.Manifest.Seq), e.Manifest.Seq)
	if err != nil {
		return "", err
	}
	good, wrong, err := a.attempts(ctx, e, claims[e.Manifest.Seq])
	if err != nil {
		return "", err
	}
	if len(good) > 0 {
		return fmt.Sprintf("snapshot %d is notarized %s", e.Manifest.Seq, good[len(good)-1]), nil
	}
	for _, w := range wrong {
		if errors.Is(w, archive.ErrFrozen) {
			return "", fmt.Errorf("snapshot: whether snapshot %d is notarized is not known: %w", e.Manifest.Seq, w)
		}
	}
	missing := &NotNotarizedError{Seq: e.Manifest.Seq}
	missing.text = fmt.Sprintf("snapshot %d is signed by %s and notarized by nobody; %s",
		missing.Seq, strings.Join(e.SignedBy, ", "), whoMay(a.Policy.Notaries(missing.Seq)))
	for i, w := range wrong {
		if i == maxReasons {
			missing.text += fmt.Sprintf("; and %d more objects that do not count", len(wrong)-i)
			break
		}
		missing.text += "; " + w.Error()
	}
	return "", missing
}

// NewestNotarized returns the newest snapshot before manifest number seq that has a good
// notarization, as far as it is found among the last manifest.MaxTries that claim to
// have one; nil: none.
func (a *Archive) NewestNotarized(ctx context.Context, before int64) (*Entry, error) {
	chain, err := a.chain(ctx)
	if len(chain) == 0 {
		return nil, err
	}
	claims, err := a.claims(ctx, manifest.NotarizationFolder+"/", before-1)
	if err != nil {
		return nil, err
	}
	tries := 0
	for _, e := range slices.Backward(chain[:min(before-1, int64(len(chain)))]) {
		if len(e.Notaries) == 0 && len(claims[e.Manifest.Seq]) == 0 {
			continue
		}
		if tries++; tries > manifest.MaxTries {
			break
		}
		good, _, err := a.notarizations(ctx, e, claims[e.Manifest.Seq])
		if err != nil {
			return nil, err
		}
		if len(good) > 0 {
			return &e, nil
		}
	}
	return nil, nil
}

// endorsed looks who has notarized a snapshot, and whether it has what is asked for.
func (v *verifier) endorsed(ctx context.Context, e Entry) error {
	if v.alone {
		return nil
	}
	good, notes, err := v.Archive.Notarizations(ctx, e)
	if err != nil {
		return err
	}
	if len(good) > 0 {
		v.report.Notarized = append(v.report.Notarized, NotarizedBy{e.Manifest.Seq, e.Manifest.Snapshot, good})
	}
	for _, note := range notes {
		v.note("%s", note)
	}
	for _, r := range v.Require {
		_, err := r(ctx, v.Archive, e)
		if err := v.found(err); err != nil {
			return err
		}
	}
	return nil
}
