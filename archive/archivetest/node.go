package archivetest

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// nodePackages returns a function that returns the folder in which packages for
// Node.js are installed, NAME@VERSION each. They are fetched with npm at first
// use and kept in the user's cache directory. Test binaries that run at the same
// time may each install them; the first one's are kept.
func nodePackages(packages ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		name := strings.NewReplacer("/", "-", "@", "").Replace(strings.Join(packages, "-"))
		home := filepath.Join(cache, "otsnap-test", name)
		if _, err := os.Stat(home); err == nil {
			return home, nil
		}
		return home, install(home, packages)
	})
}

func install(home string, packages []string) error {
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(home), "install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	args := []string{"install", "--no-audit", "--no-fund", "--silent", "--prefix", fresh}
	if err := exec.Command("npm", append(args, packages...)...).Run(); err != nil {
		return err
	}
	err = os.Rename(fresh, home)
	_, missing := os.Stat(home)
	if missing == nil {
		return nil // by us, or by another who was quicker
	}
	return cmp.Or(err, missing)
}
