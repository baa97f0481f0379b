package oss

import (
	"encoding/xml"
	"testing"
)

func TestARequestToThawNamesATierOnlyWhereThereAreSome(t *testing.T) {
	tests := []struct {
		request restoreRequest
		want    string
	}{
		{restoreRequest{Days: 3}, "<RestoreRequest><Days>3</Days></RestoreRequest>"},
		{restoreRequest{Days: 9, Job: &restoreJob{"Bulk"}},
			"<RestoreRequest><Days>9</Days><JobParameters><Tier>Bulk</Tier></JobParameters></RestoreRequest>"},
	}
	for _, test := range tests {
		got, err := xml.Marshal(test.request)
		if err != nil || string(got) != test.want {
			t.Errorf("got %s, error %v; want %s", got, err, test.want)
		}
	}
}
