// Otsnap-sample fills an instance with sample tables, for trying otsnap out
// against tablestore-local. It is no part of otsnap.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/sample"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := sample.Run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "otsnap-sample:", err)
		os.Exit(1)
	}
}
