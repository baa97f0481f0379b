package archivetest_test

import (
	"testing"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/archivetest"
	"github.com/otsnap/otsnap/archive/dir"
)

func openDir(t *testing.T) archive.Store {
	s, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestDirOfManyObjects(t *testing.T)    { archivetest.TestManyObjects(t, openDir) }
func TestDirWithALargeObject(t *testing.T) { archivetest.TestLargeObject(t, openDir) }

func TestDirIsAsMemory(t *testing.T) {
	archivetest.TestModel(t, func(t *testing.T) []archive.Store {
		path := t.TempDir()
		var stores []archive.Store
		for range 3 {
			s, err := dir.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			stores = append(stores, s)
		}
		return stores
	})
}
