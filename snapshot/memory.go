package snapshot

import (
	"context"

	"github.com/otsnap/otsnap/manifest"
	"golang.org/x/sync/semaphore"
)

// MinMemory is the least Memory that an export, a verification, a restore and a
// comparison keep to with chunks of DefaultChunkBytes.
const MinMemory = 448 << 20

// What things take, measured on rows that do not compress.
const (
	answerBytes   = 4 << 20         // of the service, unless a row alone is larger
	scanBytes     = 2 * answerBytes // one at hand, one on its way
	decodeBytes   = 6 * groupBytes  // a row group on its way from Parquet to records, and to rows
	requestsBytes = 4 * answerBytes // to write rows
)

// ExportMemory returns the least Memory an Export keeps to with chunks of that size,
// in whole MiB.
func ExportMemory(chunkBytes int64) int64 {
	const mib = 1 << 20
	return max(MinMemory, (2*chunkMemory(chunkBytes)+mib-1)/mib*mib)
}

// chunkMemory is what a chunk takes from its first row until it is stored: twice
// its bytes when it is closed, if nothing of it compresses, and its row groups in
// between. Reading it back takes no more.
func chunkMemory(chunkBytes int64) int64 {
	stored := chunkBytes + groupBytes // it ends with the row group that makes it large enough
	return max(2*stored+groupBytes, stored+decodeBytes) + scanBytes
}

// rowsMemory is what it takes to decode the rows of a chunk, the chunk included.
func rowsMemory(c manifest.Chunk) int64 { return c.Size + min(decodeBytes, 8*c.RawBytes) }

// pairsMemory is what it takes to hold them against live ones.
func pairsMemory(c manifest.Chunk) int64 { return rowsMemory(c) + scanBytes + 2*groupBytes }

// writeMemory is what it takes to write them, or those of them that are not there.
func writeMemory(c manifest.Chunk) int64 { return pairsMemory(c) + requestsBytes }

// budget is memory that is given out for work, and taken back when that is done.
// Who has some needs no more to come to an end, so that all who wait get theirs. Nil
// gives without end.
type budget struct {
	size int64
	left *semaphore.Weighted
}

// newBudget returns what can be given out of memory, in bytes; 0: no limit. Half of it
// stays for all that is not counted, and for what is no longer used and not yet
// free: a chunk is one piece, and the runtime makes room behind time.
func newBudget(memory int64) *budget {
	if memory <= 0 {
		return nil
	}
	size := max(1, memory/2)
	return &budget{size, semaphore.NewWeighted(size)}
}

// take waits for so many bytes, and returns what gives them back. What is more than
// all there is gets all of it, and goes on alone.
func (b *budget) take(ctx context.Context, bytes int64) (giveBack func(), err error) {
	if b == nil {
		return func() {}, nil
	}
	bytes = min(bytes, b.size)
	if err := b.left.Acquire(ctx, bytes); err != nil {
		return nil, err
	}
	return func() { b.left.Release(bytes) }, nil
}

// units returns how many of so many bytes each there is room for at once, at least
// 1 and at most most.
func (b *budget) units(bytes int64, most int) int {
	if b == nil {
		return most
	}
	return int(max(1, min(int64(most), b.size/bytes)))
}
