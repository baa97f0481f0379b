package main

import "github.com/spf13/cobra"

func (a *app) lockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Show, extend and hold what keeps an archive from being changed or removed",
		Args:  knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "say what to do: bucket")
		},
	}
	cmd.AddCommand(a.bucketLockCommand())
	return cmd
}
