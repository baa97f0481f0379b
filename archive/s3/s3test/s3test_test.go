package s3test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestKinds(t *testing.T) {
	for text, want := range map[string]string{"": "[versitygw]", "minio": "[minio]", "versitygw,minio,ceph": "[versitygw minio ceph]", "minio,gofakes3": ""} {
		t.Setenv("OTSNAP_S3", text)
		kinds, err := Kinds()
		if want == "" && err == nil || want != "" && fmt.Sprint(kinds) != want {
			t.Errorf("OTSNAP_S3=%s: got %v, %v; want %s", text, kinds, err, want)
		}
	}
}

func TestAServerThereIsNot(t *testing.T) {
	if _, err := Start(t.Context(), "gofakes3", t.TempDir()); err == nil {
		t.Error("started a server nobody knows")
	}
	if _, err := Install(t.Context(), Ceph); err == nil {
		t.Error("built Ceph")
	}
	t.Setenv("PATH", "")
	if _, err := Start(t.Context(), Ceph, t.TempDir()); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("Ceph without its daemons: got %v, want ErrNotInstalled", err)
	}
}

// TestAServerEndsWithItsTest kills a process that runs a server.
func TestAServerEndsWithItsTest(t *testing.T) {
	if os.Getenv("OTSNAP_TEST_RUNS_SERVER") != "" {
		s, err := Start(context.Background(), VersityGW, os.Getenv("OTSNAP_TEST_RUNS_SERVER"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("listens on", strings.TrimPrefix(s.Endpoint, "http://"))
		time.Sleep(time.Minute)
		return
	}
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("needs a real server, and Linux")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAServerEndsWithItsTest$")
	cmd.Env = append(os.Environ(), "OTSNAP_TEST_RUNS_SERVER="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var address string
	_, err = fmt.Fscanf(out, "listens on %s", &address)
	cmd.Process.Kill()
	io.Copy(io.Discard, out)
	cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatalf("the server still listens on %s", address)
		}
	}
}
