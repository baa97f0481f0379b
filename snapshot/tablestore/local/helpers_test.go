package local

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// serve opens a server and the official SDK's client for it.
func serve(t *testing.T, o Options) (*Server, *tablestore.TableStoreClient) {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, clientOf(h.URL)
}

// clientOf returns a client that gives up at the first error.
func clientOf(url string) *tablestore.TableStoreClient {
	config := tablestore.NewDefaultTableStoreConfig()
	config.RetryTimes = 0
	return tablestore.NewClientWithConfig(url, "demo", DefaultAccessKeyID, DefaultAccessKeySecret, "", config)
}

// clock is a clock that stands still until it is told.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{at: time.Now().Truncate(time.Second)} }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }
func (c *clock) millis() int64           { return c.at.UnixMilli() }
