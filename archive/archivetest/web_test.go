package archivetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

// serve starts a server of the simplest protocol a store can have: PUT creates,
// GET reads and takes ranges, DELETE deletes, and GET with a query lists.
func serve(t *testing.T) (address string) {
	var archives sync.Map // of *Memory, by the first part of the path
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		found, _ := archives.LoadOrStore(id, new(Memory))
		m := found.(*Memory)
		switch {
		case r.Method == http.MethodPut:
			data, err := io.ReadAll(r.Body)
			if err == nil {
				err = m.Put(r.Context(), name, bytes.NewReader(data), archive.PutOptions{})
			}
			answer(w, err)
		case r.Method == http.MethodDelete:
			answer(w, m.Delete(r.Context(), name))
		case r.URL.Query().Has("prefix"):
			list := make([]archive.Object, 0)
			for o := range m.List(r.Context(), r.URL.Query().Get("prefix")) {
				list = append(list, o)
			}
			json.NewEncoder(w).Encode(list)
		default:
			data, err := m.get(r.Context(), name)
			if err != nil {
				answer(w, err)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func answer(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, fs.ErrExist):
		w.WriteHeader(http.StatusConflict)
	case errors.Is(err, fs.ErrNotExist):
		w.WriteHeader(http.StatusNotFound)
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// web is a store on such a server.
type web struct {
	base   string // ends with a slash
	client http.Client
	retry  remote.Retry
}

var archives atomic.Int64

func openWeb(t *testing.T, address string) archive.Store {
	transport := remote.Transport(2 * time.Second)
	t.Cleanup(transport.CloseIdleConnections)
	temporary := func(err error) bool { return errors.Is(err, archive.ErrUnavailable) }
	return &web{
		base:   fmt.Sprintf("http://%s/archive%d/", address, archives.Add(1)),
		client: http.Client{Transport: transport},
		retry:  remote.Retry{GiveUpAfter: 10 * time.Second, Temporary: temporary},
	}
}

// send makes one request. Statuses that say nothing of the object are errors.
func (s *web) send(ctx context.Context, method, target string, body io.Reader, header ...string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	reply, err := s.client.Do(request)
	if err != nil {
		return nil, remote.Unavailable(ctx, err)
	}
	switch reply.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return reply, nil
	case http.StatusConflict:
		err = fs.ErrExist
	case http.StatusNotFound:
		err = fs.ErrNotExist
	default:
		err = remote.Unavailable(ctx, errors.New(reply.Status))
	}
	reply.Body.Close()
	return nil, err
}

func (s *web) url(name string) string { return s.base + (&url.URL{Path: name}).EscapedPath() }

func (s *web) Put(ctx context.Context, name string, body io.ReadSeeker, opts archive.PutOptions) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	if opts.Lock != (archive.Lock{}) {
		return errors.ErrUnsupported
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return s.retry.Do(ctx, func(n int) error {
		reply, err := s.send(ctx, http.MethodPut, s.url(name), bytes.NewReader(data))
		if errors.Is(err, fs.ErrExist) && n > 1 {
			return s.ours(ctx, name, data)
		}
		if err == nil {
			reply.Body.Close()
		}
		return err
	})
}

// ours returns nil if the object of that name is these bytes.
func (s *web) ours(ctx context.Context, name string, data []byte) error {
	body, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	defer body.Close()
	there, err := io.ReadAll(body)
	if err == nil && !bytes.Equal(there, data) {
		return fs.ErrExist
	}
	return err
}

func (s *web) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := archive.CheckName(name); err != nil {
		return nil, err
	}
	return remote.NewBody(ctx, s.retry, func(offset int64) (remote.Part, error) {
		reply, err := s.send(ctx, http.MethodGet, s.url(name), nil, "Range", fmt.Sprintf("bytes=%d-", offset))
		if err != nil {
			return remote.Part{}, err
		}
		return remote.Part{Body: reply.Body, Size: offset + reply.ContentLength}, nil
	})
}

func (s *web) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		var list []archive.Object
		err := s.retry.Do(ctx, func(int) error {
			reply, err := s.send(ctx, http.MethodGet, s.base+"?prefix="+url.QueryEscape(prefix), nil)
			if err != nil {
				return err
			}
			defer reply.Body.Close()
			list = nil
			return remote.Unavailable(ctx, json.NewDecoder(reply.Body).Decode(&list))
		})
		for _, o := range list {
			if ctx.Err() != nil {
				err = ctx.Err()
				break
			}
			if !yield(o, nil) {
				return
			}
		}
		if err != nil {
			yield(archive.Object{}, err)
		}
	}
}

func (s *web) Delete(ctx context.Context, name string) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	return s.retry.Do(ctx, func(int) error {
		reply, err := s.send(ctx, http.MethodDelete, s.url(name), nil)
		if err == nil {
			reply.Body.Close()
		}
		return err
	})
}

func TestStoreOnTheWeb(t *testing.T) {
	address := serve(t)
	TestStore(t, func(t *testing.T) archive.Store { return openWeb(t, address) })
}

func TestStoreOnABadNetwork(t *testing.T) {
	t.Parallel()
	TestNetwork(t, openWeb, serve(t))
}

func TestStoreBehindABadFrontEnd(t *testing.T) {
	t.Parallel()
	TestFront(t, openWeb, serve(t))
}
