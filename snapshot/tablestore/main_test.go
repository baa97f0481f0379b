package tablestore

import "github.com/otsnap/otsnap/manifest"

// orders is a table with a key of every type.
var orders = manifest.Table{
	Name: "orders",
	Key: []manifest.KeyColumn{
		{Name: "country", Type: manifest.String},
		{Name: "id", Type: manifest.Integer},
		{Name: "part", Type: manifest.Binary},
	},
}
