package main

import (
	"context"
	"encoding/json"

	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/spf13/cobra"
)

// schemaOptions are the flags of schema.
type schemaOptions struct {
	archive  archiveFlags
	snapshot string
	format   string
}

func (a *app) schemaCommand() *cobra.Command {
	var o schemaOptions
	cmd := &cobra.Command{
		Use:   "schema ARCHIVE [TABLE]",
		Short: "Print how the tables of a snapshot were made",
		Long: `Print how the tables of a snapshot, or one of them, were made: primary key,
predefined columns, options, stream, encryption and indexes. Only the signed
manifest is read.

As JSON it is what was signed, nothing more and nothing less. As Go it is a
program that makes the tables again by hand, empty, through the service's own SDK
(github.com/aliyun/aliyun-tablestore-go-sdk v1.8.0); it needs nothing of otsnap.`,
		Example: `  otsnap schema /backup/shop orders | jq '.tables[0].options'
  otsnap schema /backup/shop --format go > main.go`,
		Args: arguments([]string{"ARCHIVE"}, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.format != "json" && o.format != "go" {
				return usage(cmd, "--format %s: there are json and go", o.format)
			}
			if o.format == "go" && a.json {
				return usage(cmd, "--json and --format go exclude each other")
			}
			return a.schema(cmd.Context(), args[0], args[1:], o)
		},
	}
	o.archive.add(cmd)
	addSnapshotFlag(cmd, &o.snapshot, "the newest")
	cmd.Flags().StringVar(&o.format, "format", "json", "`FORMAT`: json or go")
	return cmd
}

// schemaResult is what schema tells.
type schemaResult struct {
	Archive  manifest.Hash     `json:"archive"`
	Seq      int64             `json:"seq"`
	Snapshot string            `json:"snapshot"`
	Instance manifest.Instance `json:"instance"`
	Tables   []manifest.Table  `json:"tables"`
}

func (a *app) schema(ctx context.Context, location string, table []string, o schemaOptions) error {
	from, err := a.openArchive(ctx, location, o.archive)
	if err != nil {
		return err
	}
	chain, err := from.Chain(ctx)
	if err != nil {
		return err
	}
	e, err := snapshot.Choose(chain, o.snapshot)
	if err != nil {
		return err
	}
	result := schemaResult{Archive: from.Policy.ID(), Seq: e.Manifest.Seq, Snapshot: e.Manifest.Snapshot, Instance: e.Manifest.Instance, Tables: []manifest.Table{}}
	tables := e.Manifest.Tables
	if len(table) > 0 {
		one, err := snapshot.FindTable(e, table[0])
		if err != nil {
			return err
		}
		tables = []manifest.TableEntry{one}
	}
	for _, t := range tables {
		result.Tables = append(result.Tables, t.Table)
	}
	if err := a.printSchemas(result, o.format); err != nil {
		return err
	}
	from.remember(chain[len(chain)-1])
	return nil
}

func (a *app) printSchemas(result schemaResult, format string) error {
	if format == "go" {
		program, err := goProgram(result)
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(program)
		return err
	}
	a.answered = true
	encoder := json.NewEncoder(a.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}
