package archivetest

import (
	"crypto/sha256"
	"io/fs"
	"maps"
	"slices"

	"github.com/otsnap/otsnap/archive"
)

// Overlay lays a newer version over an object, as anybody may who can write to
// the bucket, whatever locks are on it. Without versions it overwrites the
// object, unless that is retained: then its error is [archive.ErrLocked].
func (v *Vault) Overlay(name string, data []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.NoVersions && v.object(name) != nil {
		return v.overwrite(name, v.fresh(data))
	}
	v.add(name, v.fresh(data))
	return nil
}

// Mark lays a delete marker over an object, as anybody may who can delete from
// the bucket, whatever locks are on it. Without versions it deletes the object,
// unless that is retained: then its error is [archive.ErrLocked].
func (v *Vault) Mark(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.NoVersions {
		v.add(name, &version{marker: true})
		return nil
	}
	switch found := v.object(name); {
	case found == nil:
		return fs.ErrNotExist
	case v.retained(found):
		return archive.ErrLocked
	}
	delete(v.objects, name)
	return nil
}

// Tamper changes the bytes of an object in place and nothing else: its version,
// its lock and the digest the server keeps are as before.
func (v *Vault) Tamper(name string, data []byte) {
	v.change(name, func(one *version) { one.data = slices.Clone(data) })
}

// Unlock takes off an object's lock and hold.
func (v *Vault) Unlock(name string) {
	v.change(name, func(one *version) { one.lock = archive.Lock{} })
}

// change changes the object called name, and panics if there is none: the test
// that asks for it is wrong.
func (v *Vault) change(name string, how func(*version)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found := v.object(name)
	if found == nil {
		panic("archivetest: no object " + name + " to change")
	}
	how(found)
}

// Replace puts a new object where name is, whatever was there and however
// locked. It has no lock.
func (v *Vault) Replace(name string, data []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.objects, name)
	v.add(name, v.fresh(data))
}

// Erase removes all that is under name, however locked.
func (v *Vault) Erase(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.objects, name)
}

// Names returns the names of all objects in byte order.
func (v *Vault) Names() []string {
	var names []string
	for _, o := range v.list("") {
		names = append(names, o.Name)
	}
	return names
}

// Clone returns a vault with the same fields, objects and locks, to be changed on
// its own.
func (v *Vault) Clone() *Vault {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := &Vault{
		Now: v.Now, Default: v.Default, DefaultPeriod: v.DefaultPeriod, FreezeBulk: v.FreezeBulk, ThawTime: v.ThawTime,
		Encryption: v.Encryption, IgnoreCreateOnly: v.IgnoreCreateOnly, NoVersions: v.NoVersions, NoLocks: v.NoLocks,
		DropLocks: v.DropLocks, NoBucketLock: v.NoBucketLock, NoChecksums: v.NoChecksums, NoTiers: v.NoTiers,
		Blind: v.Blind, Unsure: v.Unsure,
		objects: maps.Clone(v.objects), serial: v.serial, bucket: v.bucket,
	}
	for name, versions := range c.objects {
		c.objects[name] = slices.Clone(versions)
		for i, one := range c.objects[name] {
			same := *one
			c.objects[name][i] = &same
		}
	}
	return c
}

func (v *Vault) fresh(data []byte) *version {
	made := &version{data: slices.Clone(data)}
	if !v.NoChecksums {
		made.sum = sha256.Sum256(data)
	}
	return made
}
