package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/otsnap/otsnap/archive/archivetest"
)

//go:embed duckdb.mjs
var duckDBScript string

// duckDB is an empty database in memory, in a process of its own.
type duckDB struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

func startDuckDB(ctx context.Context) (*duckDB, error) {
	home, err := archivetest.InstallDuckDB()
	if err != nil {
		return nil, fmt.Errorf("DuckDB cannot be fetched by npm: %w", err)
	}
	cmd := exec.CommandContext(ctx, "node", "--input-type=module", "--eval", duckDBScript)
	cmd.Dir, cmd.Stderr = home, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &duckDB{cmd, in, json.NewDecoder(bufio.NewReader(out))}, cmd.Start()
}

// run runs a statement.
func (d *duckDB) run(sql string) (spent, []string, error) {
	line, err := json.Marshal(map[string]string{"sql": sql})
	if err != nil {
		return spent{}, nil, err
	}
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		return spent{}, nil, fmt.Errorf("DuckDB: %w", err)
	}
	var answer struct {
		Wall, CPU int64
		Row       []string
	}
	if err := d.answers.Decode(&answer); err != nil {
		return spent{}, nil, fmt.Errorf("DuckDB: %s: %w", sql, err)
	}
	return spent{time.Duration(answer.Wall) * time.Microsecond, time.Duration(answer.CPU) * time.Microsecond}, answer.Row, nil
}

func (d *duckDB) stop() error {
	d.in.Close()
	return d.cmd.Wait()
}
