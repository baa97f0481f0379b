package manifest

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestNamesOfObjects(t *testing.T) {
	f := newFixture(t)
	entry := f.manifest.Tables[0]
	for got, want := range map[string]string{
		PolicyName(1):                                     "policy/00000001.dsse.json",
		ManifestName(17):                                  "manifests/00000017.dsse.json",
		TimestampName(17, 2):                              "timestamps/00000017-2.tsr",
		f.manifest.PlanObject().Name:                      "snapshots/20261122T160501Z-1f7a9c04/plan.dsse.json",
		PageName(testSnapshot, "t", 3):                    "snapshots/20261122T160501Z-1f7a9c04/t/r0003.dsse.json",
		ChunkName(3, 0, 2):                                "r0003-000002.parquet",
		ChunkName(3, 1, 2):                                "r0003.1-000002.parquet",
		f.manifest.PageObject(entry, entry.Pages[1]).Name: "snapshots/20261122T160501Z-1f7a9c04/orders/r0001.dsse.json",
		ChunkObject(testSnapshot, "orders", f.pages[0].Chunks[1]).Name: "snapshots/20261122T160501Z-1f7a9c04/orders/r0000-000001.parquet",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	c := f.pages[0].Chunks[0]
	if o := ChunkObject(testSnapshot, "orders", c); o.Size != c.Size || o.SHA256 != c.SHA256 {
		t.Errorf("got %+v for %+v", o, c)
	}
	if o := f.manifest.PlanObject(); o.Size != -1 || o.SHA256 != Sum(f.sealedPlan) {
		t.Errorf("got %+v for the plan", o)
	}
}

func TestManifestNamesParse(t *testing.T) {
	for _, seq := range []int64{1, 17, MaxSeq} {
		if got, ok := ParseManifestName(ManifestName(seq)); !ok || got != seq {
			t.Errorf("%s: got %d, %t", ManifestName(seq), got, ok)
		}
	}
	for _, name := range []string{
		"", "manifests/", "manifests/.dsse.json", "manifests/00000000.dsse.json", "manifests/1.dsse.json",
		"manifests/000000001.dsse.json", "manifests/100000000.dsse.json", "manifests/-0000001.dsse.json",
		"manifests/+0000001.dsse.json", "manifests/0000000a.dsse.json", "manifests/00000001.dsse.json.tmp",
		"manifests/00000001.dsse.jso", "00000001.dsse.json", "policy/00000001.dsse.json", "manifests//0000001.dsse.json",
		"manifests/٠٠٠٠.dsse.json",
	} {
		if seq, ok := ParseManifestName(name); ok {
			t.Errorf("%q: got %d", name, seq)
		}
	}
}

func TestTimestampNamesParse(t *testing.T) {
	for _, want := range [][2]int64{{1, 1}, {17, 10}, {MaxSeq, MaxTries}} {
		name := TimestampName(want[0], want[1])
		seq, n, ok := ParseTimestampName(name)
		if !ok || [2]int64{seq, n} != want || !strings.HasPrefix(name, TimestampsOf(seq)) {
			t.Errorf("%s: got %d, %d, %t", name, seq, n, ok)
		}
	}
	for _, name := range []string{
		"", "timestamps/", "timestamps/.tsr", "timestamps/-.tsr", "timestamps/00000001-.tsr", "timestamps/-1.tsr",
		"timestamps/00000000-1.tsr", "timestamps/00000001-0.tsr", "timestamps/00000001-01.tsr", "timestamps/00000001-65.tsr",
		"timestamps/1-1.tsr", "timestamps/000000001-1.tsr", "timestamps/100000000-1.tsr", "timestamps/00000001--1.tsr",
		"timestamps/00000001-+1.tsr", "timestamps/00000001-1-1.tsr", "timestamps/00000001-1.tsr.tsr", "timestamps/00000001-1.TSR",
		"timestamps/00000001-1.tsr/", "timestamps//00000001-1.tsr", "00000001-1.tsr", "manifests/00000001-1.tsr",
	} {
		if seq, n, ok := ParseTimestampName(name); ok {
			t.Errorf("%q: got %d, %d", name, seq, n)
		}
	}
}

func TestChunkNamesParse(t *testing.T) {
	for _, want := range [][3]int64{{0, 0, 0}, {3, 0, 2}, {3, 1, 2}, {MaxRanges - 1, MaxAttempts - 1, MaxRangeChunks - 1}} {
		name := ChunkName(want[0], want[1], want[2])
		rng, attempt, index, err := ParseChunkName(name)
		if err != nil || [3]int64{rng, attempt, index} != want {
			t.Errorf("%s: got %d, %d, %d, %v", name, rng, attempt, index, err)
		}
	}
	for _, name := range []string{
		"", "r", "r0003", "r0003-000002", "r0003-2.parquet", "r3-000002.parquet", "0003-000002.parquet",
		"r0003.0-000002.parquet", "r0003.01-000002.parquet", "r0003.-000002.parquet", "r0003.1.2-000002.parquet",
		"r10000-000002.parquet", "r0003-1000000.parquet", "r0003.10000-000002.parquet", "r0003-000002.parquet/", "../r0003-000002.parquet",
		"r-003-000002.parquet", "r0003--00002.parquet", "R0003-000002.parquet", "r0003-000002.PARQUET", "r0003\x00-000002.parquet",
	} {
		if rng, attempt, index, err := ParseChunkName(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %d, %d, %d, %v", name, rng, attempt, index, err)
		}
	}
}

func TestSnapshotIDs(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 5, 1, 999, time.FixedZone("", 8*3600))
	got := NewSnapshotID(now, []byte{0x1f, 0x7a, 0x9c, 0x04, 0xff})
	if got != testSnapshot {
		t.Errorf("got %s, want %s", got, testSnapshot)
	}
	if err := CheckSnapshotID(got); err != nil {
		t.Error(err)
	}
	for _, id := range []string{
		"", "-", "20261122T160501Z", "20261122T160501Z-", "20261122T160501Z-1f7a9c0", "20261122T160501Z-1f7a9c044",
		"20261122T160501Z-1F7A9C04", "20261122T160501Z-1f7a9c04/", "20261122T160501-1f7a9c04", "20261322T160501Z-1f7a9c04",
		"20261131T160501Z-1f7a9c04", "20261122T160561Z-1f7a9c04", "20261122T160501.5Z-1f7a9c04", "..", "20261122T160501Z-1f-a9c04",
	} {
		if err := CheckSnapshotID(id); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v", id, err)
		}
	}
}

func TestTableNames(t *testing.T) {
	for _, name := range []string{"a", "_", "Orders_2", strings.Repeat("x", 255)} {
		if err := CheckTableName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "2x", "a b", "a/b", "..", "a.b", "a-b", "é", "a\x00", "a\u202e", "a\x1b[2J", strings.Repeat("x", 256),
	} {
		if err := CheckTableName(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestSeriesHaveANameOfTheirOwn(t *testing.T) {
	name := MetaName("cpu")
	if table, ok := CutMetaName(name); name != "cpu.meta" || table != "cpu" || !ok {
		t.Errorf("%q is of %q, %t", name, table, ok)
	}
	if table, ok := CutMetaName("cpu"); table != "cpu" || ok {
		t.Errorf("cpu is of %q, %t", table, ok)
	}
	for _, name := range []string{"cpu", "cpu.meta", "meta", "_.meta"} {
		if err := checkEntryName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", ".meta", "cpu.", "cpu.meta.meta", "cpu.meta/", "../cpu.meta", "cpu.Meta", "cpu.data"} {
		if err := checkEntryName(name); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
}
