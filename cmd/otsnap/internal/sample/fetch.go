package sample

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The flights are too large to come with the source. They are a file of an npm
// package, 13 MB, and this is its digest.
const (
	flightsPackage = "vega-datasets@3.2.1"
	flightsArchive = "vega-datasets-3.2.1.tgz"
	flightsMember  = "package/data/flights-3m.parquet"
	flightsSHA256  = "dbeb920c90f59b6ccaff823dcc3d08f25a97fa1ce128d93f40be4e931f5900b0"
)

// FetchFlights returns the path of the file of 3,000,000 flights, which it gets
// by npm and keeps in the user's cache directory.
func FetchFlights(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("sample: flights: %w", err)
	}
	dir := filepath.Join(cache, "otsnap")
	path := filepath.Join(dir, filepath.Base(flightsMember))
	if checkFlights(path) == nil {
		return path, nil
	}
	if err := fetchFlights(ctx, dir, path); err != nil {
		return "", fmt.Errorf("sample: flights from npm package %s: %w", flightsPackage, err)
	}
	return path, nil
}

func fetchFlights(ctx context.Context, dir, path string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := command(ctx, temp, "npm", "pack", "--silent", flightsPackage); err != nil {
		return err
	}
	if err := command(ctx, temp, "tar", "-xzf", flightsArchive, flightsMember); err != nil {
		return err
	}
	member := filepath.Join(temp, filepath.FromSlash(flightsMember))
	if err := checkFlights(member); err != nil {
		return err
	}
	return os.Rename(member, path)
}

func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

func checkFlights(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	if hex.EncodeToString(sum[:]) != flightsSHA256 {
		return errors.New("the file is not the one expected")
	}
	return nil
}
