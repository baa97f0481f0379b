package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/cmd/otsnap/internal/page"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// exportOptions are the flags of export.
type exportOptions struct {
	archive   archiveFlags
	instance  instanceFlags
	keys      []string
	tables    []string
	workers   int
	memory    memoryFlag
	chunkSize size
	splitSize size
	resume    string
	lock      lockFlags
	readBack  string
}

// maxArchives is how many archives one export writes to at most.
const maxArchives = 4

func (a *app) exportCommand() *cobra.Command {
	o := exportOptions{chunkSize: snapshot.DefaultChunkBytes, splitSize: snapshot.DefaultSplitBytes}
	cmd := &cobra.Command{
		Use:   "export INSTANCE ARCHIVE… --key KEY",
		Short: "Write a snapshot of tables into an archive",
		Long: `Write a snapshot of tables into an archive.

Every row is read with every version of every cell, and every chunk is read back
before it is stored. The snapshot exists once its signed manifest does, which is
the last thing written. An export that was interrupted leaves no snapshot; go on
with it by --resume, or begin another. With several archives every row is read
once and written to all of them.

With --anchor PLACE the archive is held against all heads in that place
before anything is read, and a new head, signed by the same keys, is recorded there
once the snapshot exists, locked as the snapshot is where the place can do that.
If that fails the snapshot is there all the same: do not export again, but record
the head by otsnap anchor record; the next export does it, too.

The access key is read from TABLESTORE_ACCESS_KEY_ID, _SECRET and
TABLESTORE_SECURITY_TOKEN, or those beginning with ALIBABA_CLOUD_, or from the
file given by --credentials. It needs to read, describe and list tables.`,
		Example: `  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem
  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem --table 'order*' --table '!order_tmp'
  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem --anchor /mnt/other/anchors
  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem --resume
  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com 'oss://BUCKET/shop?region=cn-hangzhou' 's3://BUCKET/shop?region=eu-central-1' --key exporter.pem`,
		Args: arguments([]string{"INSTANCE", "ARCHIVE"}, maxArchives-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.keys) == 0 {
				return usage(cmd, "--key KEY is missing: a snapshot has to be signed")
			}
			if err := o.check(cmd, args[1:]); err != nil {
				return err
			}
			if err := o.memory.limit(cmd, o.workers, snapshot.ExportMemory(int64(o.chunkSize))); err != nil {
				return err
			}
			return a.export(cmd.Context(), args[0], args[1:], o)
		},
	}
	o.archive.recording = true
	o.archive.add(cmd)
	cmd.Flags().Lookup("anchor").Usage = "hold the archive against the signed heads in this `PLACE`, and record there how far it has come then (repeat for more)"
	o.instance.add(cmd)
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "private `KEY` to sign with: a file, or as in otsnap key --help (repeat for more)")
	a.addPassphraseFlag(cmd)
	addTableFlag(cmd, &o.tables)
	addWorkersFlag(cmd, &o.workers)
	o.memory.add(cmd)
	cmd.Flags().Var(&o.chunkSize, "chunk-size", "size of a chunk's rows before compression")
	cmd.Flags().Var(&o.splitSize, "split-size", "size of the part of a table one worker reads")
	cmd.Flags().StringVar(&o.resume, "resume", "", "go on with the unfinished export `ID`, or with the last one (write --resume=ID), as it was planned: tables and sizes given now do not count")
	cmd.Flags().Lookup("resume").NoOptDefVal = "latest"
	o.lock.add(cmd, "lock the snapshot for this `PERIOD` from its start on (default: as the archive or its bucket does)")
	addReadBackFlag(cmd, &o.readBack)
	return cmd
}

func addReadBackFlag(cmd *cobra.Command, readBack *string) {
	cmd.Flags().StringVar(readBack, "read-back", "", "`WHICH` chunks to read again once OSS has them, since it cannot check SHA-256: all, sample or none (default: as in the address, else sample)")
}

// check refuses flags that no export could follow.
func (o exportOptions) check(cmd *cobra.Command, archives []string) error {
	if len(archives) > 1 && (o.archive.trust != "" || o.archive.id != "" || o.archive.seq != 0 || !o.archive.digest.IsZero()) {
		return advise(usage(cmd, "--trust, --archive-id, --expect-seq and --expect-sha256 are of one archive, and there are %d", len(archives)),
			"give each archive's id once before: otsnap show ARCHIVE --archive-id ID")
	}
	if cmd.Flags().Changed("resume") && o.resume == "" {
		return usage(cmd, "--resume= names no export; write --resume for the last one")
	}
	if o.chunkSize < snapshot.MinChunkBytes || o.chunkSize > snapshot.MaxChunkBytes {
		return usage(cmd, "--chunk-size %s: chunks can have 16KiB to 1GiB", o.chunkSize.String())
	}
	return nil
}

func addTableFlag(cmd *cobra.Command, tables *[]string) {
	cmd.Flags().StringArrayVar(tables, "table", nil, "tables to take, as a `GLOB`; '!GLOB' leaves some out (repeat for more; default: all)")
}

func addWorkersFlag(cmd *cobra.Command, workers *int) {
	cmd.Flags().IntVar(workers, "workers", snapshot.DefaultWorkers, "`NUMBER` of chunks in work at once")
}

func (a *app) export(ctx context.Context, address string, locations []string, o exportOptions) error {
	signing, err := a.signers(ctx, o.keys, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	var to []*opened
	var archives []*snapshot.Archive
	for _, location := range locations {
		one, err := a.openForWriting(ctx, location, o.archive, o.readBack)
		if err != nil {
			return err
		}
		if err := one.heldNow(ctx); err != nil { // before it gets a number that a head elsewhere has for another
			return fmt.Errorf("%s: %w", one.place.name, err)
		}
		policy, _, err := one.InForce(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", one.place.name, err)
		}
		if err := policy.Check(ofPolicy(policy, signing, len(locations) > 1)...); err != nil {
			return advise(labelled{fmt.Errorf("%s: %w", one.place.name, err), errKey}, "otsnap show %s tells which keys may sign, and how many must", quoted(location))
		}
		if settings, err := one.Settings(ctx); err == nil && settings == nil {
			a.warn("warning: %s has no report of its store, so it may be a copy: if the original is exported to as well, the two have other snapshots under the same numbers from here on, and neither can be copied to the other again", one.place.name)
		}
		one.Archive.Place = one.place.name
		to, archives = append(to, one), append(archives, one.Archive)
	}
	from, err := a.openInstance(address, o.instance, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	shown := a.reporter()
	defer shown.Close()
	run := snapshot.Export{
		From: from, To: archives, Signers: signing,
		Workers: o.workers, Memory: o.memory.granted, ChunkBytes: int64(o.chunkSize), SplitBytes: int64(o.splitSize), Resume: o.resume,
		Mode: o.lock.mode.Mode, Retain: o.lock.retain.Period,
		Tool: "otsnap " + version, Build: build().String(), Now: a.now, Progress: shown.Event,
	}
	if o.resume == "" {
		if run.Tables, err = chooseTables(ctx, from, o.tables); err != nil {
			return err
		}
	}
	a.resume = "go on with the same command and --resume"
	exported, err := run.Run(ctx)
	shown.Close()
	if errors.Is(err, errors.ErrUnsupported) && len(to) == 1 && (o.lock.mode.Mode != archive.Unlocked || !o.lock.retain.IsZero()) {
		return advise(err, "%s", initOptions{lock: o.lock}.instead(to[0].place.kind))
	}
	if err != nil {
		return err
	}
	return a.exported(ctx, to, exported, signing)
}

// ofPolicy leaves out, where there are several archives, those that sign in another.
func ofPolicy(p *manifest.Policy, signing []manifest.Signer, several bool) []manifest.Signer {
	if !several {
		return signing
	}
	return slices.DeleteFunc(slices.Clone(signing), func(s manifest.Signer) bool {
		return !slices.ContainsFunc(p.Keys, func(k manifest.PolicyKey) bool {
			key, err := k.Key()
			return err == nil && key == s.Key()
		})
	})
}

// exported tells of the snapshot in each archive.
func (a *app) exported(ctx context.Context, to []*opened, exported []snapshot.Exported, signing []manifest.Signer) error {
	var results []entryResult
	var unrecorded error
	for i, e := range exported {
		to[i].remember(e.Entry)
		result := newEntryResult(e.Entry)
		heads, err := to[i].anchor(ctx, e.Entry, ofPolicy(to[i].Policy, signing, true))
		result.Anchored, unrecorded = heads, errors.Join(unrecorded, err)
		result.Archive, result.Warnings = to[i].place.name, append([]string{}, e.Warnings...)
		results = append(results, result)
		for _, warning := range e.Warnings {
			a.warn("warning: %s", sentence(warning))
		}
	}
	var document any = results[0]
	if len(results) > 1 {
		document = map[string][]entryResult{"archives": results}
	}
	err := a.answer(document, func(w io.Writer) {
		printExported(w, exported[0].Entry, a.took())
		for i, e := range exported {
			printStored(w, to[i].place.name, e.Entry)
			for _, head := range results[i].Anchored {
				head.print(w)
			}
		}
		printNotCaptured(w, exported[0].Manifest.Tables)
	})
	return errors.Join(err, unrecorded)
}

// chooseTables asks the instance for its tables and takes those wanted.
func chooseTables(ctx context.Context, from snapshot.Source, globs []string) ([]string, error) {
	names, err := from.Tables(ctx)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("instance %s has no tables to export", printInstance(from.Instance()))
	}
	return snapshot.Select(names, globs)
}

func printExported(w io.Writer, e snapshot.Entry, took string) {
	m := e.Manifest
	printTables(w, m.Tables)
	fmt.Fprintf(w, "exported: %s, %s, %s of rows in %s of chunks, in %s\n", console.Count(len(m.Tables), "table"),
		console.Count(m.Totals.Rows, "row"), console.Bytes(m.Totals.RawBytes), console.Bytes(m.Totals.StoredBytes),
		took)
}

// printStored tells of a snapshot in one archive.
func printStored(w io.Writer, place string, e snapshot.Entry) {
	m := e.Manifest
	fmt.Fprintf(w, "snapshot: number %d, %s, of instance %s, in %s\n", m.Seq, m.Snapshot, printInstance(m.Instance), console.Quote(place))
	fmt.Fprintf(w, "manifest: sha256:%s\n", e.Digest)
	if m.Retention.Until != "" {
		fmt.Fprintf(w, "retained: %s; otsnap verify --retention compares that with what the store says\n", page.Retention(m.Retention))
	}
}

// printNotCaptured names what the export saw and could not keep, each once with
// the tables it is about.
func printNotCaptured(w io.Writer, tables []manifest.TableEntry) {
	var properties []string
	of := map[string][]string{}
	for _, t := range tables {
		for _, property := range t.Table.NotCaptured {
			if of[property] == nil {
				properties = append(properties, property)
			}
			of[property] = append(of[property], console.Quote(t.Table.Name))
		}
	}
	for _, property := range properties {
		which := strings.Join(of[property], ", ")
		if len(tables) > 1 && len(of[property]) == len(tables) {
			which = "all tables"
		}
		fmt.Fprintf(w, "not captured: %s (%s)\n", console.Printable(property), which)
	}
}

func printTables(w io.Writer, tables []manifest.TableEntry) {
	var t console.Table
	t.Row("table", "chunks", "rows", "cells", "raw", "stored")
	for _, x := range tables {
		t.Row(console.Quote(x.Table.Name), console.Number(x.Totals.Chunks), console.Number(x.Totals.Rows), console.Number(x.Totals.Cells),
			console.Bytes(x.Totals.RawBytes), console.Bytes(x.Totals.StoredBytes))
	}
	t.Print(w)
}

// entryResult is a snapshot in JSON, in short.
type entryResult struct {
	Archive  string            `json:"archive,omitempty"` // where it was exported to
	Seq      int64             `json:"seq"`
	Snapshot string            `json:"snapshot"`
	Digest   manifest.Hash     `json:"digest"`
	Instance manifest.Instance `json:"instance"`
	Started  manifest.Time     `json:"started"`
	Finished manifest.Time     `json:"finished"`
	Tables   []tableResult     `json:"tables"`
	Totals   manifest.Totals   `json:"totals"`

	Retention manifest.Retention `json:"retention"`
	Anchored  []headResult       `json:"anchored,omitempty"` // where a head says so
	Warnings  []string           `json:"warnings,omitempty"`
}

type tableResult struct {
	Name        string          `json:"name"`
	Totals      manifest.Totals `json:"totals"`
	NotCaptured []string        `json:"not_captured"`
}

func newEntryResult(e snapshot.Entry) entryResult {
	m := e.Manifest
	r := entryResult{
		Seq: m.Seq, Snapshot: m.Snapshot, Digest: e.Digest, Instance: m.Instance,
		Started: m.Started, Finished: m.Finished, Totals: m.Totals, Tables: []tableResult{}, Retention: m.Retention,
	}
	for _, t := range m.Tables {
		r.Tables = append(r.Tables, tableResult{t.Table.Name, t.Totals, t.Table.NotCaptured})
	}
	return r
}
