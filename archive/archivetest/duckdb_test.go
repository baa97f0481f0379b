package archivetest

import (
	"fmt"
	"testing"
)

func TestDuckDBAnswers(t *testing.T) {
	got := DuckDB(t, `create table t as select 1 as a; select a, 'x', null, [{'n': 'y', 'v': 9007199254740993}] from t`)
	if want := "[[1 x NULL [{'n': 'y', 'v': 9007199254740993}]]]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
