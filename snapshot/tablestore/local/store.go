package local

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	cacheSize    = 64 << 20
	memTableSize = 32 << 20
)

// openDB opens the database in dir, or one in memory, which needs no log.
func openDB(dir string) (*pebble.DB, error) {
	cache := pebble.NewCache(cacheSize)
	defer cache.Unref() // the database holds its own reference
	o := &pebble.Options{
		Cache:              cache,
		MemTableSize:       memTableSize,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             logger{},
	}
	if dir == "" {
		o.FS, o.DisableWAL = vfs.NewMem(), true
	}
	return pebble.Open(dir, o)
}

// logger drops what Pebble has to tell. What it calls fatal it must not survive,
// for it has lost the means to keep its promises.
type logger struct{}

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {}
func (logger) Fatalf(format string, args ...any) {
	panic("local: " + fmt.Sprintf(format, args...))
}
