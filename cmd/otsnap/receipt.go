package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"hash"
	"io"

	"github.com/otsnap/otsnap/archive/row"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
)

// receipt is the signed report of a restore on its way to a file, and beside it the
// keys the service chose. A nil receipt is not wanted.
type receipt struct {
	file, keys *output
	keysName   string
	signers    []manifest.Signer
	digest     hash.Hash
	rows       int64
}

// newReceipt makes the files, under names of their own until all is in them.
func (a *app) newReceipt(path string, signers []manifest.Signer) (*receipt, error) {
	if path == "" {
		return nil, nil
	}
	r := &receipt{signers: signers, digest: sha256.New(), keysName: path + ".keys.jsonl"}
	var err error
	if r.file, err = a.output(path); err != nil {
		return nil, err
	}
	if r.keys, err = a.output(r.keysName); err != nil {
		r.file.discard()
		return nil, err
	}
	return r, nil
}

func (r *receipt) discard() {
	if r != nil {
		r.file.discard()
		r.keys.discard()
	}
}

// keyMap notes which key became which.
func (r *receipt) keyMap(table manifest.Table, was, is manifest.Key) error {
	line, err := json.Marshal(struct {
		Table string       `json:"table"`
		Was   string       `json:"was"`
		Is    string       `json:"is"`
		From  manifest.Key `json:"was_key"`
		To    manifest.Key `json:"is_key"`
	}{table.Name, row.FormatKey(table.Key, was), row.FormatKey(table.Key, is), was, is})
	if err != nil {
		return err
	}
	r.rows++
	_, err = io.MultiWriter(r.keys, r.digest).Write(append(line, '\n'))
	return err
}

// receiptDocument is what is signed: the report, and the digest of the keys.
type receiptDocument struct {
	*snapshot.Report
	Keys *keysFile `json:"keys,omitempty"`
}

type keysFile struct {
	File   string        `json:"file"`
	SHA256 manifest.Hash `json:"sha256"`
	Rows   int64         `json:"rows"`
}

// receiptOf begins the receipt of a run.
func receiptOf(from *snapshot.Archive, report *snapshot.Report) manifest.Receipt {
	return manifest.Receipt{
		Format: manifest.Format, Archive: report.Archive, Kind: report.Kind, Seq: report.Seq, Digest: report.Digest,
		Version: from.Policy.Version, Policy: from.Policy.Digest(), Started: report.Started, Finished: report.Finished,
		Tool: "otsnap " + version, Build: build().String(),
	}
}

// keep signs the receipt and gives the files their names.
func (r *receipt) keep(ctx context.Context, signed manifest.Receipt, report *snapshot.Report) error {
	if r == nil {
		return nil
	}
	document := receiptDocument{Report: report}
	if r.rows > 0 {
		document.Keys = &keysFile{File: r.keysName, SHA256: manifest.Hash(r.digest.Sum(nil)), Rows: r.rows}
		if err := r.keys.keep(); err != nil {
			return err
		}
	}
	var err error
	if signed.Report, err = manifest.NewRaw(document); err != nil {
		return err
	}
	sealed, err := manifest.SealReceipt(ctx, &signed, r.signers...)
	if err != nil {
		return err
	}
	if _, err := r.file.Write(sealed); err != nil {
		return err
	}
	return r.file.keep()
}
