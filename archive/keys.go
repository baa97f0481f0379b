package archive

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
)

// keys follows the keys of records that are to be in ascending order.
type keys struct {
	columns     []manifest.KeyColumn
	encoder     *row.Encoder
	first, last manifest.Key
	next        manifest.Key // room for the key after last
}

func newKeys(l row.Layout) keys { return keys{columns: l.Key, encoder: row.NewEncoder(l)} }

// add goes through the keys of a record that follows those added before.
func (k *keys) add(rec arrow.RecordBatch) error {
	if err := k.encoder.Reset(rec); err != nil {
		return err
	}
	return k.follow(int(rec.NumRows()), k.encoder.AppendKey)
}

// follow is add for n rows whose keys at appends.
func (k *keys) follow(n int, at func(dst []byte, i int) []byte) error {
	for i := range n {
		k.next = at(k.next[:0], i)
		if k.first == nil {
			k.first = bytes.Clone(k.next)
		} else if bytes.Compare(k.last, k.next) >= 0 {
			return fmt.Errorf("key %s follows %s", k.format(k.next), k.format(k.last))
		}
		k.last, k.next = k.next, k.last
	}
	return nil
}

// format returns a key as people read it.
func (k *keys) format(key manifest.Key) string { return row.FormatKey(k.columns, key) }
