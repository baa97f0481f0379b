package archivetest

import (
	"maps"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
)

func TestVaultLocks(t *testing.T) {
	TestLocks(t, func(*testing.T) LockStore { return new(Vault) })
}

func TestVaultDefaultLock(t *testing.T) {
	TestDefaultLock(t, func(*testing.T) LockStore {
		return &Vault{Default: archive.Governance, DefaultPeriod: archive.Period{Years: 1, Days: 2}}
	})
}

func TestVaultBucketLock(t *testing.T) {
	TestBucketLock(t, func(*testing.T) BucketLockStore { return new(Vault) })
}

func TestVaultVersions(t *testing.T) {
	TestVersions(t, func(*testing.T) VersionedBucket {
		v := new(Vault)
		return VersionedBucket{Store: v, Overlay: v.Overlay, Mark: v.Mark}
	})
}

func TestVaultThaws(t *testing.T) {
	TestThaw(t, func(*testing.T) FrozenBucket {
		c := &clock{time.Now()}
		v := &Vault{FreezeBulk: true, ThawTime: time.Hour, Now: c.Now}
		return FrozenBucket{Store: v, Finish: func() { c.now = c.now.Add(time.Hour) }}
	})
}

func TestVaultProbes(t *testing.T) {
	states := make(map[string]archive.State)
	for name := range capabilities {
		states[name] = archive.Supported
	}
	without := maps.Clone(states)
	without[archive.CanLock], without[archive.CanHold] = archive.Absent, archive.Absent
	without[archive.CanTier] = archive.Unknown
	t.Run("All", func(t *testing.T) {
		TestProbe(t, func(*testing.T) ProbeStore { return &Vault{Encryption: "AES256"} }, states)
	})
	t.Run("Some", func(t *testing.T) {
		TestProbe(t, func(*testing.T) ProbeStore {
			return &Vault{Encryption: "AES256", DropLocks: true, Unsure: []string{archive.CanTier}}
		}, without)
	})
}

func TestVaultOfManyObjects(t *testing.T) {
	TestManyObjects(t, func(*testing.T) archive.Store { return new(Vault) })
}

func TestVaultIsAsMemory(t *testing.T) {
	TestModel(t, func(*testing.T) []archive.Store { return []archive.Store{new(Vault)} })
}
