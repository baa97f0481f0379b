// Command tablestore-local serves a Tablestore on this machine, for trying
// otsnap out, for tests, and for developing against the service without it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// drain is how long requests under way may take to end once the server is told
// to stop.
const drain = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage): // the flag package has said what is wrong
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "tablestore-local:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("bad usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("tablestore-local", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:8087", "`address` to listen on; port 0 takes a free one")
	remote := flags.Bool("allow-remote", false, "allow an address other machines can reach")
	o := local.Options{Keys: accessKey()}
	flags.StringVar(&o.Dir, "dir", "", "`directory` to keep tables in; without it they are gone when the server stops")
	flags.Uint64Var(&o.Seed, "seed", 1, "`number` that decides which requests meet a fault")
	flags.DurationVar(&o.IndexBuild, "index-build", 0, "`time` a new index over rows that are there takes to be ready; without it CreateIndex is answered when it is")
	flags.IntVar(&o.ShardRecords, "shard-records", 0, "`number` of records after which a shard of a stream splits; 0 is 100,000")
	flags.Int64Var(&o.PartitionWrites, "partition-writes", 0, "write capacity `units` a table, being one partition, takes in a second before further rows are answered OTSServerBusy; 0 is no limit")
	flags.IntVar(&o.TableOps, "table-ops", 0, "`number` of operations in a second that make, change or delete tables and indexes; the service takes 10, 0 is no limit")
	var faults []local.Fault
	flags.Func("fault", "let requests go wrong, as in BatchWriteRow:busy:0.01 or *:busy:after=100:for=60s; a `fault` is "+local.FaultSyntax+"; may be repeated", func(text string) error {
		fault, err := local.ParseFault(text)
		faults = append(faults, fault)
		return err
	})
	flags.Func("generate", "serve a table whose rows are made when they are read, and that takes no writes, as in source/events:1000000: `instance/table:rows`; may be repeated", func(text string) error {
		table, err := local.ParseGenerated(text)
		o.Generated = append(o.Generated, table)
		return err
	})
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	listener, err := open(*listen, *remote)
	if err != nil {
		return err
	}
	defer listener.Close()
	server, err := local.Open(o)
	if err != nil {
		return err
	}
	if err := server.Misbehave(faults...); err != nil {
		return errors.Join(err, server.Close())
	}
	fmt.Fprintf(stdout, "tablestore-local: listening on http://%s\n", listener.Addr())
	return errors.Join(serve(ctx, listener, server), server.Close())
}

// accessKey is the one access key the server knows, from the environment: argv
// is for everyone to read.
func accessKey() map[string]string {
	id, secret := os.Getenv("TABLESTORE_LOCAL_ACCESS_KEY_ID"), os.Getenv("TABLESTORE_LOCAL_ACCESS_KEY_SECRET")
	if id == "" {
		id = local.DefaultAccessKeyID
	}
	if secret == "" {
		secret = local.DefaultAccessKeySecret
	}
	return map[string]string{id: secret}
}

// open listens on an address, which must be of this machine alone unless remote
// is set: the default secret is no secret, and nothing is encrypted.
func open(address string, remote bool) (net.Listener, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	if !remote && !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("%s can be reached from other machines: listen on 127.0.0.1 or give --allow-remote", address)
	}
	return net.ListenTCP("tcp", addr)
}

// serve answers requests until ctx is done, and then ends those under way.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	return server.Shutdown(stop)
}
