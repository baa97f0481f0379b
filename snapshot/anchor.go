package snapshot

import (
	"fmt"

	"github.com/otsnap/otsnap/manifest"
)

// anchors are what the archive is held against: what the trust file has seen, and what
// else was given.
func (a *Archive) anchors() []manifest.Anchor {
	var all []manifest.Anchor
	if a.Trust.Seq > 0 {
		all = append(all, manifest.Anchor{Source: "trust file", Seq: a.Trust.Seq, Digest: a.Trust.Head})
	}
	return append(all, a.Anchors...)
}

// against holds the entries of a chain against the anchors, and returns those that
// hold. One that the entries contradict is manifest.ErrRollback, and so is one that
// they do not reach where the chain ends with them. Whether others hold cannot be
// told: the chain goes on, and is not good there.
func (a *Archive) against(chain []Entry, ends bool) ([]manifest.Anchor, error) {
	for _, x := range a.earlier {
		if at := anchored(chain, x); at != nil && at.Digest != x.Digest {
			return nil, forked(x, at)
		}
	}
	held := []manifest.Anchor{}
	for _, x := range a.anchors() {
		at := anchored(chain, x)
		switch {
		case at == nil && ends:
			return nil, cutShort(chain, x)
		case at == nil:
			continue
		case !x.Digest.IsZero() && at.Digest != x.Digest:
			return nil, forked(x, at)
		}
		x.Seq = at.Manifest.Seq
		held = append(held, x)
	}
	return held, nil
}

// forked is the error of a chain that has another manifest than an anchor names.
func forked(x manifest.Anchor, at *Entry) error {
	return fmt.Errorf("snapshot: %w: manifest %d is sha256:%s, and the %s says sha256:%s: the archive has been forked",
		manifest.ErrRollback, x.Seq, at.Digest, x.Source, x.Digest)
}

// anchored returns the entry an anchor is about, by its number, or else by its digest;
// nil: it is not there.
func anchored(chain []Entry, x manifest.Anchor) *Entry {
	if x.Seq > 0 && x.Seq <= int64(len(chain)) {
		return &chain[x.Seq-1]
	}
	for i := range chain {
		if x.Seq == 0 && chain[i].Digest == x.Digest {
			return &chain[i]
		}
	}
	return nil
}

// cutShort is the error of a chain that lacks what an anchor names.
func cutShort(chain []Entry, x manifest.Anchor) error {
	if x.Seq == 0 {
		return fmt.Errorf("snapshot: %w: none of the archive's %d manifests is sha256:%s, as the %s says: that one is hidden, deleted or replaced",
			manifest.ErrRollback, len(chain), x.Digest, x.Source)
	}
	digest := ""
	if !x.Digest.IsZero() {
		digest = fmt.Sprintf(" (sha256:%s)", x.Digest)
	}
	return fmt.Errorf("snapshot: %w: the archive ends at manifest %d, and the %s says there is manifest %d%s: something is hidden or deleted",
		manifest.ErrRollback, len(chain), x.Source, x.Seq, digest)
}

// unreached returns an anchor that was given and that the chain is not good enough to
// be held against; nil: there is none.
func (a *Archive) unreached(chain []Entry) *manifest.Anchor {
	for i := range a.Anchors {
		if anchored(chain, a.Anchors[i]) == nil {
			return &a.Anchors[i]
		}
	}
	return nil
}
