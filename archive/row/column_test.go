package row

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// A column says which values are there only from its first gap on, so the first
// gap is tried at every place, and with every number of values behind it.
func TestColumnWithAGap(t *testing.T) {
	const most = 20
	c := newColumn(memory.DefaultAllocator, integer, false)
	for before := range most {
		for gap := range 10 {
			for after := range most {
				n := before + gap + after
				for i := range n {
					if i < before || i >= before+gap {
						c.setFixed(i, int64(i))
					}
				}
				data := c.take(n)
				values := array.NewInt64Data(data)
				for i := range n {
					there := i < before || i >= before+gap
					if values.IsValid(i) != there || there && values.Value(i) != int64(i) {
						t.Fatalf("%d values, %d nulls, %d values: number %d is %s", before, gap, after, i, values.ValueStr(i))
					}
				}
				if values.NullN() != gap {
					t.Fatalf("%d values, %d nulls, %d values: %d nulls", before, gap, after, values.NullN())
				}
				values.Release()
				data.Release()
			}
		}
	}
}
