//go:build !linux

package s3test

import "syscall"

// bound does nothing: here a test that is killed leaves its servers behind.
func bound() *syscall.SysProcAttr { return nil }
