package sample

import (
	"errors"
	"iter"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// serve starts an empty Tablestore and returns a client of it.
func serve(t *testing.T) *tablestore.TableStoreClient {
	t.Helper()
	server, err := local.Open(local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		front.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return tablestore.NewClient(front.URL, "shop", local.DefaultAccessKeyID, local.DefaultAccessKeySecret)
}

func TestLoadCountsEveryRow(t *testing.T) {
	client := serve(t)
	counts, err := Load(t.Context(), client, Movies, Oddities)
	if err != nil || !slices.Equal(counts, []int64{3201, 23}) {
		t.Errorf("got %v, %v", counts, err)
	}
	listed, err := client.ListTable()
	if err != nil || len(listed.TableNames) != 2 {
		t.Errorf("tables are %v, %v", listed, err)
	}
	if _, err := Load(t.Context(), client, Movies); err == nil {
		t.Error("a table that exists was filled again")
	}
}

func TestLoadSaysWhichTablesThereAre(t *testing.T) {
	_, err := Load(t.Context(), nil, "orders")
	if err == nil || !strings.Contains(err.Error(), "only cities, movies, oddities and wide") {
		t.Errorf("got %v", err)
	}
}

func TestEveryCityIsThere(t *testing.T) {
	n := 0
	for r, err := range cityRows() {
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Columns) < 7 {
			t.Fatalf("row %d has %d columns", n, len(r.Columns))
		}
		n++
	}
	if n != 135_233 {
		t.Errorf("got %d cities, want 135233", n)
	}
}

func TestBatchesKeepToTheLimits(t *testing.T) {
	wide := put("wide")
	wide.AddColumn("text", strings.Repeat("x", 1<<20))
	rows := slices.Repeat([]*tablestore.PutRowChange{put("narrow")}, 450)
	rows = append(rows, wide, wide, wide, wide)
	var sizes []int
	for b, err := range batches(each(rows, nil)) {
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(b.rows))
	}
	if want := []int{200, 200, 52, 2}; !slices.Equal(sizes, want) {
		t.Errorf("got batches of %d, want %d", sizes, want)
	}
}

func TestAnErrorOfTheSourceIsReturned(t *testing.T) {
	broken := errors.New("broken")
	s := oddities()
	s.rows = each(nil, broken)
	if _, err := s.load(t.Context(), serve(t)); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

// each yields rows and then, if it is not nil, err.
func each(rows []*tablestore.PutRowChange, err error) iter.Seq2[*tablestore.PutRowChange, error] {
	return func(yield func(*tablestore.PutRowChange, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}
