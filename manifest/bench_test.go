package manifest

import "testing"

// BenchmarkOpenPage reads a page of 10,000 chunks.
func BenchmarkOpenPage(b *testing.B) {
	f := newFixture(b)
	pg := f.pages[1]
	pg.Chunks, pg.Totals = nil, Totals{}
	for i := range int64(10_000) {
		c := testChunk(1, i)
		c.Rows = 10
		c.First = Key{0x80, 0x10, byte(i >> 8), byte(i), 0}
		c.Last = Key{0x80, 0x10, byte(i >> 8), byte(i), 1}
		pg.Chunks = append(pg.Chunks, c)
		pg.Totals.Add(c.Totals())
	}
	sealed := must(SealPage(b.Context(), pg, f.exporter))(b)
	b.SetBytes(int64(len(sealed)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OpenPage(sealed, f.policy); err != nil {
			b.Fatal(err)
		}
	}
}
