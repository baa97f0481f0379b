package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
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
	chunkSize size
	splitSize size
	resume    string
}

func (a *app) exportCommand() *cobra.Command {
	o := exportOptions{chunkSize: snapshot.DefaultChunkBytes, splitSize: snapshot.DefaultSplitBytes}
	cmd := &cobra.Command{
		Use:   "export INSTANCE ARCHIVE --key FILE",
		Short: "Write a snapshot of tables into an archive",
		Long: `Write a snapshot of tables into an archive.

Every row is read with every version of every cell, and every chunk is read back
before it is stored. The snapshot exists once its signed manifest does, which is
the last thing written. An export that was interrupted leaves no snapshot; go on
with it by --resume, or begin another.

The access key is read from TABLESTORE_ACCESS_KEY_ID, _SECRET and
TABLESTORE_SECURITY_TOKEN, or those beginning with ALIBABA_CLOUD_, or from the
file given by --credentials. It needs to read, describe and list tables.`,
		Example: `  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem
  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem --table 'order*' --table '!order_tmp'
  otsnap export https://shop.cn-hangzhou.ots.aliyuncs.com /backup/shop --key exporter.pem --resume`,
		Args: arguments([]string{"INSTANCE", "ARCHIVE"}, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.keys) == 0 {
				return usage(cmd, "--key FILE is missing: a snapshot has to be signed")
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			return a.export(cmd.Context(), args[0], args[1], o)
		},
	}
	o.archive.add(cmd)
	o.instance.add(cmd)
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "private key `FILE` to sign with (repeat for more)")
	addTableFlag(cmd, &o.tables)
	addWorkersFlag(cmd, &o.workers)
	cmd.Flags().Var(&o.chunkSize, "chunk-size", "size of a chunk's rows before compression")
	cmd.Flags().Var(&o.splitSize, "split-size", "size of the part of a table one worker reads")
	cmd.Flags().StringVar(&o.resume, "resume", "", "go on with the unfinished export `ID`, or with the last one (write --resume=ID), as it was planned: tables and sizes given now do not count")
	cmd.Flags().Lookup("resume").NoOptDefVal = "latest"
	return cmd
}

// check refuses flags that no export could follow.
func (o exportOptions) check(cmd *cobra.Command) error {
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
	cmd.Flags().IntVar(workers, "workers", snapshot.DefaultWorkers, "`NUMBER` of chunks in work at once; memory grows with it")
}

func (a *app) export(ctx context.Context, address, location string, o exportOptions) error {
	signing, err := signers(o.keys)
	if err != nil {
		return err
	}
	to, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	if err := to.Policy.Check(signing...); err != nil {
		return advise(labelled{err, errKey}, "otsnap show %s tells which keys may sign, and how many must", location)
	}
	shown := a.reporter()
	defer shown.Close()
	from, err := a.openInstance(address, o.instance, o.archive.giveUpAfter)
	if err != nil {
		return err
	}
	run := snapshot.Export{
		From: from, To: to.Archive, Signers: exporterFirst(to.Policy, signing),
		Workers: o.workers, ChunkBytes: int64(o.chunkSize), SplitBytes: int64(o.splitSize), Resume: o.resume,
		Tool: "otsnap " + version, Build: build().String(), Now: a.now, Progress: shown.Event,
	}
	if o.resume == "" {
		if run.Tables, err = chooseTables(ctx, from, o.tables); err != nil {
			return err
		}
	}
	a.resume = "go on with the same command and --resume"
	entry, err := run.Run(ctx)
	shown.Close()
	if err != nil {
		return err
	}
	to.remember(entry)
	return a.answer(newEntryResult(entry), func(w io.Writer) { printExported(w, entry, a.took()) })
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

// exporterFirst orders the signers so that one who may sign the parts of a
// snapshot comes first.
func exporterFirst(p *manifest.Policy, signing []manifest.Signer) []manifest.Signer {
	notary := map[manifest.PublicKey]bool{}
	for _, k := range p.Keys {
		if key, err := k.Key(); err == nil {
			notary[key] = k.Role == manifest.Notary
		}
	}
	ordered := slices.Clone(signing)
	slices.SortStableFunc(ordered, func(a, b manifest.Signer) int {
		return order(notary[a.Key()]) - order(notary[b.Key()])
	})
	return ordered
}

func order(last bool) int {
	if last {
		return 1
	}
	return 0
}

func printExported(w io.Writer, e snapshot.Entry, took string) {
	m := e.Manifest
	printTables(w, m.Tables)
	fmt.Fprintf(w, "exported: %s, %s, %s of rows in %s of chunks, in %s\n", console.Count(len(m.Tables), "table"),
		console.Count(m.Totals.Rows, "row"), console.Bytes(m.Totals.RawBytes), console.Bytes(m.Totals.StoredBytes),
		took)
	fmt.Fprintf(w, "snapshot: number %d, %s, of instance %s\n", m.Seq, m.Snapshot, printInstance(m.Instance))
	fmt.Fprintf(w, "manifest: sha256:%s\n", e.Digest)
	if m.Retention.Until != "" {
		fmt.Fprintf(w, "retained: %s; otsnap verify --retention compares that with what the store says\n", printRetention(m.Retention))
	}
	printNotCaptured(w, m.Tables)
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
	Seq      int64             `json:"seq"`
	Snapshot string            `json:"snapshot"`
	Digest   manifest.Hash     `json:"digest"`
	Instance manifest.Instance `json:"instance"`
	Started  manifest.Time     `json:"started"`
	Finished manifest.Time     `json:"finished"`
	Tables   []tableResult     `json:"tables"`
	Totals   manifest.Totals   `json:"totals"`
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
		Started: m.Started, Finished: m.Finished, Totals: m.Totals, Tables: []tableResult{},
	}
	for _, t := range m.Tables {
		r.Tables = append(r.Tables, tableResult{t.Table.Name, t.Totals, t.Table.NotCaptured})
	}
	return r
}
