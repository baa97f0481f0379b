package snapshot_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/dir"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// grown makes an archive of n snapshots of one small table, as far as manifests go:
// their pages and chunks are those of nothing.
func grown(t testing.TB, store archive.Store, n int) manifest.Trust {
	t.Helper()
	a, key := newArchive(t, store)
	m := &manifest.Manifest{
		Format: 1, Archive: a.Policy.ID(), Policy: a.Policy.Digest(), Tool: "otsnap test", Build: "go test",
		Instance:    manifest.Instance{Endpoint: "https://shop.example", Name: "shop"},
		Consistency: manifest.Consistency{Kind: "window", Positions: []string{}}, Retention: manifest.Retention{Mode: manifest.NoRetention},
		Plan: manifest.Hash{1},
	}
	for i := range 8 {
		m.Tables = append(m.Tables, manifest.TableEntry{
			Table: manifest.Table{
				Name: fmt.Sprintf("table_%d", i), Key: []manifest.KeyColumn{{Name: "id", Type: manifest.Integer}},
				Options: manifest.Options{TTL: -1, MaxVersions: 1, Deviation: 86400},
			},
			Pages: []manifest.PageRef{{SHA256: manifest.Hash{2}, Size: 500}},
			Root:  manifest.Sum(nil),
		})
	}
	for seq := range n {
		m.Seq = int64(seq + 1)
		m.Started = manifest.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seq) * time.Hour))
		m.Finished = m.Started
		m.Snapshot = manifest.NewSnapshotID(m.Started.Time, []byte{byte(seq >> 8), byte(seq)})
		sealed, err := manifest.Seal(t.Context(), m, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), manifest.ManifestName(m.Seq), bytes.NewReader(sealed), archive.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		m.Prev = manifest.Sum(sealed)
	}
	return a.Trust
}

func BenchmarkOpenAndList(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		for _, kind := range []string{"memory", "dir"} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				var store archive.Store = new(archivetest.Memory)
				if kind == "dir" {
					var err error
					if store, err = dir.Create(b.TempDir()); err != nil {
						b.Fatal(err)
					}
				}
				trust := grown(b, store, n)
				for b.Loop() {
					a, err := snapshot.Open(b.Context(), store, trust)
					if err != nil {
						b.Fatal(err)
					}
					chain, err := a.Chain(b.Context())
					if err != nil || len(chain) != n {
						b.Fatal(len(chain), err)
					}
				}
			})
		}
	}
}
