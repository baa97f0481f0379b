package s3_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/otsnap/otsnap/archive"
)

// TestAListingOfVersionsThatGoesInCirclesEnds has a server that lists two keys
// again and again.
func TestAListingOfVersionsThatGoesInCirclesEnds(t *testing.T) {
	f := newFake(t)
	page := 0
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		query := r.URL.Query()
		switch {
		case query.Has("versioning"):
			fmt.Fprint(w, `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`)
		case query.Has("versions"):
			if page++; page > 50 {
				w.WriteHeader(http.StatusTeapot)
				return true
			}
			key := []string{"a", "b"}[page%2]
			fmt.Fprintf(w, `<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>%s</NextKeyMarker>`+
				`<Version><Key>%s</Key><VersionId>1</VersionId><LastModified>2026-11-22T12:00:00Z</LastModified></Version></ListVersionsResult>`, key, key)
		default:
			return false
		}
		return true
	}
	var last error
	for _, err := range f.open(t, nil).Shadows(t.Context(), "") {
		last = err
	}
	if !errors.Is(last, archive.ErrUnavailable) || page > 5 {
		t.Errorf("after %d pages got %v, want archive.ErrUnavailable at once", page, last)
	}
}
