package s3test

import (
	"errors"
	"testing"
)

// TestInstall builds the servers that tests are to run against, so that no other
// test's time goes into that.
func TestInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds servers")
	}
	kinds, err := Kinds()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if _, ok := built[kind]; !ok {
			continue
		}
		path, err := Install(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(path)
	}
	if _, err := Install(t.Context(), "s3ninja"); err == nil {
		t.Error("a server nobody knows was installed")
	}
}

func TestKindsAreKnown(t *testing.T) {
	t.Setenv("OTSNAP_S3", "minio,s3ninja")
	if kinds, err := Kinds(); err == nil {
		t.Errorf("got %v", kinds)
	}
	t.Setenv("OTSNAP_S3", "")
	if kinds, err := Kinds(); err != nil || len(kinds) != 1 || kinds[0] != VersityGW {
		t.Errorf("got %v, %v", kinds, err)
	}
	if _, err := Start(t.Context(), "s3ninja", t.TempDir()); err == nil || errors.Is(err, ErrNotInstalled) {
		t.Errorf("start: got %v", err)
	}
}
