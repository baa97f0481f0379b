package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Raw is a JSON object of any shape, without white space between its parts: a part of
// a document whose members are not for a reader to know. No object in it names a
// member twice, and it is at most [MaxDepth] deep.
type Raw []byte

// MaxDepth is how deep a [Raw] nests.
const MaxDepth = 32

// NewRaw returns v as encoding/json writes it.
func NewRaw(v any) (Raw, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", invalid("%w", err))
	}
	return data, Raw(data).check()
}

// MarshalJSON returns r as it is.
func (r Raw) MarshalJSON() ([]byte, error) { return r, nil }

func (r Raw) check() error {
	if len(r) == 0 || r[0] != '{' {
		return invalid("want an object")
	}
	if err := checkText(r); err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, r); err != nil {
		return invalid("%w", err)
	}
	if !bytes.Equal(compact.Bytes(), r) {
		return invalid("an object with white space")
	}
	d := json.NewDecoder(bytes.NewReader(r))
	d.UseNumber()
	return checkMembers(d, 0)
}

// checkMembers reads one value and refuses members named twice.
func checkMembers(d *json.Decoder, depth int) error {
	if depth > MaxDepth {
		return invalid("nested more than %d deep", MaxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return invalid("%w", err)
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if delim == '{' {
			token, err := d.Token()
			if err != nil {
				return invalid("%w", err)
			}
			name, _ := token.(string)
			if seen[name] {
				return invalid("member %q is there twice", clip(name))
			}
			seen[name] = true
		}
		if err := checkMembers(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
