package archive

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/klauspost/compress/zstd"
)

func TestZstdUnpacksNoMoreThanAnnounced(t *testing.T) {
	if err := useZstd(); err != nil {
		t.Fatal(err)
	}
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	bomb := encoder.EncodeAll(make([]byte, 256<<20), nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := compress.Decode(codec, make([]byte, 1000), bomb); !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		t.Errorf("got %v, want ErrDecoderSizeExceeded", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("refusing %d bytes took %d bytes of memory", len(bomb), n)
	}
}

func TestGuardMakesErrorsOfPanics(t *testing.T) {
	err := guard(func() error { panic("index out of range") })
	if err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("got %v", err)
	}
	if err := guard(func() error { return nil }); err != nil {
		t.Errorf("got %v without a panic", err)
	}
}
