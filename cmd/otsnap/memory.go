package main

import (
	"math"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const (
	// defaultMemory is that of a command with DefaultWorkers; more workers get more.
	defaultMemory = 1280 << 20
	// programMemory is what a process takes beside what the runtime manages.
	programMemory = 48 << 20
)

// memoryFlag is how much memory a command may take.
type memoryFlag struct {
	size
	granted int64 // by limit
}

func (f *memoryFlag) add(cmd *cobra.Command) {
	cmd.Flags().Var(f, "memory", "memory to keep to, `SIZE` of at least 448MiB; fewer chunks are in work at once where it takes that (default 1280MiB, with more than four workers 320MiB for each)")
}

func (f *memoryFlag) String() string {
	if f.size == 0 {
		return ""
	}
	return f.size.String()
}

// limit has the runtime keep to the memory, unless GOMEMLIMIT says less, and grants
// it to a run of so many workers that needs least.
func (f *memoryFlag) limit(cmd *cobra.Command, workers int, least int64) error {
	memory := int64(f.size)
	if memory == 0 {
		each := least * 5 / 7 // 320 MiB, with chunks of no unusual size
		memory = max(defaultMemory, least, each*int64(min(workers, math.MaxInt32)))
	}
	if memory < least {
		need := size(least)
		return usage(cmd, "--memory %s is too little: with chunks of this size it takes at least %s", f.size.String(), need.String())
	}
	f.granted = memory
	if set := debug.SetMemoryLimit(-1); set < memory-programMemory {
		f.granted = set
		return nil
	}
	debug.SetMemoryLimit(memory - programMemory)
	return nil
}
