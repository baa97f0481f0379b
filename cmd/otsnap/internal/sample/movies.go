package sample

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

//go:embed data/movies.json
var moviesData []byte

// movies has 3,201 ragged rows. Title is a STRING in most and an INTEGER in some.
func movies() set {
	meta := &tablestore.TableMeta{TableName: Movies}
	meta.AddPrimaryKeyColumn("id", tablestore.PrimaryKeyType_INTEGER)
	return set{meta: meta, versions: 1, rows: movieRows()}
}

func movieRows() iter.Seq2[*tablestore.PutRowChange, error] {
	return func(yield func(*tablestore.PutRowChange, error) bool) {
		var all []map[string]any
		decoder := json.NewDecoder(bytes.NewReader(moviesData))
		decoder.UseNumber()
		if err := decoder.Decode(&all); err != nil {
			yield(nil, err)
			return
		}
		for i, fields := range all {
			r, err := movieRow(int64(i+1), fields)
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func movieRow(id int64, fields map[string]any) (*tablestore.PutRowChange, error) {
	r := put(Movies)
	r.PrimaryKey.AddPrimaryKeyColumn("id", id)
	for name, field := range fields {
		value, err := movieValue(name, field)
		if err != nil {
			return nil, fmt.Errorf("movie %d: %s: %w", id, name, err)
		}
		if value != nil {
			r.AddColumn(strings.ReplaceAll(name, " ", "_"), value)
		}
	}
	slices.SortFunc(r.Columns, func(a, b tablestore.AttributeColumn) int {
		return strings.Compare(a.ColumnName, b.ColumnName)
	})
	return r, nil
}

// movieValue is nil for a field to leave out.
func movieValue(name string, field any) (any, error) {
	number, ok := field.(json.Number)
	if !ok {
		return field, nil
	}
	if name == "IMDB Rating" { // 6 and 6.1 are both ratings
		return number.Float64()
	}
	return number.Int64()
}
