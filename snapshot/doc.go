// Package snapshot makes snapshots of the tables of an instance in an archive,
// proves them, restores them, and compares them with live tables.
//
// An archive is a store with one policy and one chain of signed manifests. A
// snapshot exists if and only if its manifest does: the manifest is the last
// object an export writes, and everything it names was read back before.
//
// The package knows no service. Rows come from a [Source] and go to a [Sink].
package snapshot
