package pages

import (
	"bytes"
	"sync"
)

const partBytes = 1 << 20

// parts are what outputs are made of. There are as many as the files being written
// take; what is over goes with the next garbage collections.
var parts = sync.Pool{New: func() any { return new([partBytes]byte) }}

// output is a file in memory that grows without being copied.
type output struct {
	parts []*[partBytes]byte
	size  int
}

// Write appends p. It returns no error.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		at := o.size % partBytes
		if at == 0 {
			o.parts = append(o.parts, parts.Get().(*[partBytes]byte))
		}
		copied := copy(o.parts[len(o.parts)-1][at:], p)
		o.size += copied
		p = p[copied:]
	}
	return n, nil
}

// take returns what was written, and empties o.
func (o *output) take() []byte {
	pieces := make([][]byte, len(o.parts))
	for i, part := range o.parts {
		pieces[i] = part[:min(partBytes, o.size-i*partBytes)]
	}
	data := bytes.Join(pieces, nil)
	for _, part := range o.parts {
		parts.Put(part)
	}
	*o = output{}
	return data
}
