package s3test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// conf is a cluster of one monitor, one manager and one store in memory, without
// authentication between them.
var conf = template.Must(template.New("ceph.conf").Parse(`[global]
fsid = 5c1b1e2a-7a0e-4f0e-9a57-0123456789ab
mon host = v1:{{.Mon}}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
ms bind msgr1 = true
mon warn on insecure global id reclaim allowed = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 2
run dir = {{.Dir}}
admin socket =
log file = {{.Dir}}/$name.ceph.log
keyring = {{.Dir}}/keyring
mon data = {{.Dir}}/mon
mgr data = {{.Dir}}/mgr
osd data = {{.Dir}}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
mgr initial modules =
rgw data = {{.Dir}}/rgw
rgw frontends = beast endpoint={{.RGW}}
rgw enable usage log = false
rgw enable gc threads = true
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {{.Key}}={{.KeyData}}
`))

func startCeph(ctx context.Context, s *Server, dir, address string) error {
	for _, name := range []string{"ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s: %w", name, ErrNotInstalled)
		}
	}
	c := &ceph{ctx: ctx, server: s, dir: dir, rgw: address}
	return c.start()
}

type ceph struct {
	ctx    context.Context
	server *Server
	dir    string
	rgw    string
}

func (c *ceph) path(name string) string { return filepath.Join(c.dir, name) }

func (c *ceph) start() error {
	mon, err := c.configure()
	if err != nil {
		return err
	}
	steps := [][]string{
		{"ceph-authtool", "--create-keyring", c.path("keyring"), "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"},
		{"monmaptool", "--create", "--fsid", "5c1b1e2a-7a0e-4f0e-9a57-0123456789ab", "--addv", "a", "[v1:" + mon + "]", c.path("monmap")},
		{"ceph-mon", "-c", c.path("ceph.conf"), "--mkfs", "-i", "a", "--monmap", c.path("monmap"), "--keyring", c.path("keyring")},
	}
	for _, step := range steps {
		if err := c.command(step...); err != nil {
			return err
		}
	}
	if err := c.daemon("ceph-mon", "-i", "a"); err != nil {
		return err
	}
	if err := c.await(mon); err != nil {
		return err
	}
	if err := c.daemon("ceph-mgr", "-i", "a"); err != nil {
		return err
	}
	const osd = "6d2c2f3b-8b1f-4e1f-8b68-0123456789ab"
	if err := c.register(osd); err != nil {
		return err
	}
	if err := c.command("ceph-osd", "-c", c.path("ceph.conf"), "-i", "0", "--mkfs", "--osd-uuid", osd); err != nil {
		return err
	}
	if err := c.daemon("ceph-osd", "-i", "0"); err != nil {
		return err
	}
	err = c.admin("user", "create", "--uid=root", "--display-name=root", "--access-key="+accessKey, "--secret-key="+secretKey)
	if err != nil {
		return err
	}
	if err := c.classes(); err != nil {
		return err
	}
	if err := c.daemon("radosgw", "-n", "client.rgw.a"); err != nil {
		return err
	}
	return c.await(c.rgw)
}

func (c *ceph) admin(args ...string) error {
	return c.command(append([]string{"radosgw-admin", "-c", c.path("ceph.conf"), "-n", "client.rgw.a"}, args...)...)
}

// classes makes storage classes, of which a cluster has but STANDARD.
func (c *ceph) classes() error {
	for _, class := range []string{"STANDARD_IA", "GLACIER"} {
		err := c.admin("zonegroup", "placement", "add", "--rgw-zonegroup=default", "--placement-id=default-placement", "--storage-class="+class)
		if err != nil {
			return err
		}
		err = c.admin("zone", "placement", "add", "--rgw-zone=default", "--placement-id=default-placement", "--storage-class="+class, "--data-pool=default.rgw.buckets.data")
		if err != nil {
			return err
		}
	}
	return nil
}

// register makes the store known to the monitor, which refuses everything until
// it has found that it is alone.
func (c *ceph) register(osd string) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := c.command("ceph", "-c", c.path("ceph.conf"), "--connect-timeout", "30", "osd", "new", osd, "0")
		if err == nil || c.ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// configure writes ceph.conf and returns the monitor's address.
func (c *ceph) configure() (string, error) {
	mon, err := free(1)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"mon", "mgr", "osd", "rgw"} {
		if err := os.MkdirAll(c.path(name), 0o755); err != nil {
			return "", err
		}
	}
	f, err := os.Create(c.path("ceph.conf"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	return mon[0], conf.Execute(f, map[string]string{"Mon": mon[0], "Dir": c.dir, "RGW": c.rgw, "Key": KMSKey, "KeyData": key})
}

func (c *ceph) command(args ...string) error {
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args[:1], " "), err, out)
	}
	return nil
}

func (c *ceph) daemon(name string, args ...string) error {
	binary, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	return c.server.run(c.dir, nil, binary, append([]string{"-c", c.path("ceph.conf"), "-f"}, args...)...)
}

// await waits until something listens.
func (c *ceph) await(address string) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return conn.Close()
		}
		last := c.server.processes[len(c.server.processes)-1]
		ended, _ := last.ended()
		if ended || c.ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("nothing listens on %s: %w\n%s\n%s", address, err, last.tail(), c.logs())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// logs is the end of what the daemons wrote.
func (c *ceph) logs() string {
	var text strings.Builder
	files, _ := filepath.Glob(c.path("*.ceph.log"))
	for _, file := range files {
		fmt.Fprintf(&text, "%s:\n%s\n", filepath.Base(file), tail(file))
	}
	return text.String()
}
