package s3test

import "syscall"

// bound is how a server is started so that it dies with the thread that starts it.
func bound() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
