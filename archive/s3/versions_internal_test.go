package s3

import (
	"testing"
	"time"
)

// TestShadowsOfTheObjectsOwnSecond has markers that were there before, or after,
// which their times do not tell.
func TestShadowsOfTheObjectsOwnSecond(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name   string
		marker version
		want   int
	}{
		{"OfTheSameSecond", version{modified: at}, 0},
		{"TheLatest", version{modified: at, latest: true}, 1},
		{"Later", version{modified: at.Add(time.Second)}, 1},
		{"Earlier", version{modified: at.Add(-time.Second)}, 0},
	} {
		h := history{versions: []version{{id: "object", modified: at}}, markers: []version{test.marker}}
		if got := h.shadows(); len(got) != test.want {
			t.Errorf("%s: got %v, want %d", test.name, got, test.want)
		}
	}
}
