//go:build !linux

package dir

import "os"

// create opens a file to write an object to.
func create(root *os.Root) (file, error) { return createNamed(root) }
