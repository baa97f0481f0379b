package sample

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

//go:embed data/cities.ndjson.gz
var citiesData []byte

type city struct {
	ID          int64  `json:"cityId"`
	Name        string `json:"name"`
	AltName     string `json:"altName"`
	Country     string `json:"country"`
	FeatureCode string `json:"featureCode"`
	AdminCode   string `json:"adminCode"`
	Population  int64  `json:"population"`
	Muni        string `json:"muni"`
	MuniSub     string `json:"muniSub"`
	Location    struct {
		Coordinates [2]float64 `json:"coordinates"` // longitude, latitude
	} `json:"loc"`
}

// cities has 135,233 rows: names in every script, numbers of both kinds, and
// columns only some rows have.
func cities() set {
	meta := &tablestore.TableMeta{TableName: Cities}
	meta.AddPrimaryKeyColumn("country", tablestore.PrimaryKeyType_STRING)
	meta.AddPrimaryKeyColumn("cityId", tablestore.PrimaryKeyType_INTEGER)
	meta.AddDefinedColumn("name", tablestore.DefinedColumn_STRING)
	meta.AddDefinedColumn("population", tablestore.DefinedColumn_INTEGER)
	return set{meta: meta, versions: 1, rows: cityRows()}
}

func cityRows() iter.Seq2[*tablestore.PutRowChange, error] {
	return func(yield func(*tablestore.PutRowChange, error) bool) {
		unzipped, err := gzip.NewReader(bytes.NewReader(citiesData))
		if err != nil {
			yield(nil, err)
			return
		}
		lines := json.NewDecoder(unzipped)
		for {
			var c city
			err := lines.Decode(&c)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(c.row(), err) || err != nil {
				return
			}
		}
	}
}

func (c city) row() *tablestore.PutRowChange {
	r := put(Cities)
	r.PrimaryKey.AddPrimaryKeyColumn("country", c.Country)
	r.PrimaryKey.AddPrimaryKeyColumn("cityId", c.ID)
	r.AddColumn("adminCode", c.AdminCode)
	r.AddColumn("altName", c.AltName)
	r.AddColumn("featureCode", c.FeatureCode)
	r.AddColumn("lat", c.Location.Coordinates[1])
	r.AddColumn("lon", c.Location.Coordinates[0])
	// These two are missing where there is none; altName and adminCode are there
	// and empty. A backup has to keep the two apart.
	if c.Muni != "" {
		r.AddColumn("muni", c.Muni)
	}
	if c.MuniSub != "" {
		r.AddColumn("muniSub", c.MuniSub)
	}
	r.AddColumn("name", c.Name)
	r.AddColumn("population", c.Population)
	return r
}
