package oss

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
)

// versioning is what a bucket does with later versions of an object.
type versioning int

const (
	unasked   versioning = iota
	unknown              // for lack of rights; an answer with a version id tells
	plain                // it keeps none
	enabled              // it keeps them
	suspended            // it keeps those it has, and a write replaces the last one
)

// keeps reports whether there may be several versions of an object.
func (v versioning) keeps() bool { return v == enabled || v == suspended }

// state returns the bucket's versioning, which is asked for once.
func (s *Store) state(ctx context.Context) (versioning, error) {
	s.mu.Lock()
	state := s.versioning
	s.mu.Unlock()
	if state != unasked {
		return state, nil
	}
	return s.renewState(ctx, unasked)
}

func (s *Store) askState(ctx context.Context) (versioning, error) {
	c := call{method: http.MethodGet, params: map[string]any{"versioning": nil}, right: "oss:GetBucketVersioning"}
	_, answer, err := s.ask(ctx, c, nil)
	if denied(err) {
		return unknown, nil
	}
	if err != nil {
		return unasked, err
	}
	var config struct {
		XMLName xml.Name `xml:"VersioningConfiguration"`
		Status  string
	}
	if err := xml.Unmarshal(answer, &config); err != nil {
		return unasked, fmt.Errorf("an answer that cannot be read: %w", err)
	}
	switch config.Status {
	case "Enabled":
		return enabled, nil
	case "Suspended":
		return suspended, nil
	}
	return plain, nil
}

// learn notes from an answer about an object that the bucket keeps versions,
// where that was not known, or was begun in the middle of a run.
func (s *Store) learn(header http.Header) {
	if oss.GetVersionId(header) == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versioning == unknown || s.versioning == plain {
		s.versioning = enabled
	}
}

// suspend notes that the bucket's versioning is suspended, which shows where
// something put gets no version of its own.
func (s *Store) suspend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versioning = suspended
}

// stateNow is state for who sees no versions in the answers: it asks again
// whether a bucket that kept none has begun to.
func (s *Store) stateNow(ctx context.Context) (versioning, error) {
	s.mu.Lock()
	known := s.versioning
	s.mu.Unlock()
	if known != plain {
		return s.state(ctx)
	}
	return s.renewState(ctx, plain)
}

// renewState asks for the bucket's versioning, of which was is known.
func (s *Store) renewState(ctx context.Context, was versioning) (versioning, error) {
	state, err := s.askState(ctx)
	if err != nil {
		return was, fmt.Errorf("versioning of the bucket: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versioning == was {
		s.versioning = state
	}
	return s.versioning, nil
}

// version is one of an object, or a delete marker.
type version struct {
	XMLName      xml.Name
	Key          string
	ID           string `xml:"VersionId"`
	LastModified time.Time
	Size         int64
}

func (v version) marker() bool { return v.XMLName.Local == "DeleteMarker" }

// versionPage is an answer to a listing of versions. The SDK's own type parts
// versions from markers, and with that loses their order.
type versionPage struct {
	XMLName     xml.Name `xml:"ListVersionsResult"`
	Encoding    string   `xml:"EncodingType"`
	IsTruncated bool
	NextKey     string    `xml:"NextKeyMarker"`
	NextID      string    `xml:"NextVersionIdMarker"`
	Entries     []version `xml:",any"`
}

// pageSize is the most the service lists at once.
const pageSize = "1000"

var errOrder = errors.New("a listing that is not in the order of keys, and may not end")

// versions yields the versions and markers of all objects whose keys begin with
// prefix, in the order of keys and each object's newest first.
func (s *Store) versions(ctx context.Context, prefix string) iter.Seq2[version, error] {
	return func(yield func(version, error) bool) {
		var key, id, last string
		for {
			page, err := s.versionPage(ctx, prefix, key, id)
			if err != nil {
				yield(version{}, err)
				return
			}
			for _, v := range page.Entries {
				if v.Key < last {
					yield(version{}, errOrder)
					return
				}
				last = v.Key
				if !yield(v, nil) {
					return
				}
			}
			if !page.IsTruncated {
				return
			}
			if page.NextKey == key && page.NextID == id {
				yield(version{}, errors.New("a listing of versions that does not go on"))
				return
			}
			key, id = page.NextKey, page.NextID
		}
	}
}

func (s *Store) versionPage(ctx context.Context, prefix, key, id string) (versionPage, error) {
	params := map[string]any{"versions": nil, "prefix": prefix, "max-keys": pageSize, "encoding-type": "url"}
	if key != "" {
		params["key-marker"] = key
	}
	if id != "" {
		params["version-id-marker"] = id
	}
	_, answer, err := s.ask(ctx, call{method: http.MethodGet, params: params, right: "oss:ListObjectVersions"}, nil)
	if err != nil {
		return versionPage{}, err
	}
	var page versionPage
	if err := xml.Unmarshal(answer, &page); err != nil {
		return versionPage{}, fmt.Errorf("a listing of versions that cannot be read: %w", err)
	}
	entries := page.Entries[:0]
	for _, v := range page.Entries {
		if v.XMLName.Local != "Version" && !v.marker() {
			continue
		}
		if v.Key, err = decoded(v.Key, page.Encoding); err != nil {
			return versionPage{}, err
		}
		entries = append(entries, v)
	}
	page.Entries = entries
	page.NextKey, err = decoded(page.NextKey, page.Encoding)
	return page, err
}

// decoded returns a key of a listing as it is.
func decoded(key, encoding string) (string, error) {
	if encoding != "url" {
		return key, nil
	}
	key, err := url.QueryUnescape(key)
	if err != nil {
		return "", fmt.Errorf("a listing with a key that cannot be read: %w", err)
	}
	return key, nil
}

// history returns the versions and markers of the object at key, newest first,
// and which of them is the object: its oldest version, or -1 if there is none.
func (s *Store) history(ctx context.Context, key string) (all []version, oldest int, err error) {
	oldest = -1
	for v, err := range s.versions(ctx, key) {
		if err != nil {
			return nil, -1, err
		}
		if v.Key != key {
			break // keys that go on come after it
		}
		if !v.marker() {
			oldest = len(all)
		}
		all = append(all, v)
	}
	return all, oldest, nil
}

// find returns the id of the version that is the object at key; empty: the
// bucket keeps none.
func (s *Store) find(ctx context.Context, key string) (string, error) {
	state, err := s.state(ctx)
	if err != nil || !state.keeps() {
		return "", err
	}
	all, oldest, err := s.history(ctx, key)
	if err != nil {
		return "", err
	}
	if oldest < 0 {
		return "", fs.ErrNotExist
	}
	return all[oldest].ID, nil
}

// found calls use with the version that is the object at key, and again if it
// shows only then that the bucket keeps versions.
func (s *Store) found(ctx context.Context, key string, use func(version string) error) error {
	id, err := s.find(ctx, key)
	if err != nil {
		return err
	}
	err = use(id)
	if state, _ := s.state(ctx); id != "" || !state.keeps() {
		return err
	}
	if id, err = s.find(ctx, key); err != nil {
		return err
	}
	return use(id)
}

// Shadows yields what is laid over objects whose names begin with prefix.
func (s *Store) Shadows(ctx context.Context, prefix string) iter.Seq2[archive.Shadow, error] {
	return func(yield func(archive.Shadow, error) bool) {
		fail := func(err error) { yield(archive.Shadow{}, failed(ctx, "list what lies over", prefix+"*", err)) }
		state, err := s.stateNow(ctx)
		if err != nil || state == plain {
			if err != nil {
				fail(err)
			}
			return
		}
		for all, err := range s.histories(ctx, s.root()+prefix) {
			if denied(err) {
				err = fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
			}
			if err != nil {
				fail(err)
				return
			}
			for _, shadow := range s.over(all) {
				if !yield(shadow, nil) {
					return
				}
			}
		}
	}
}

// histories yields the versions and markers of each object whose key begins with
// prefix.
func (s *Store) histories(ctx context.Context, prefix string) iter.Seq2[[]version, error] {
	return func(yield func([]version, error) bool) {
		var all []version
		for v, err := range s.versions(ctx, prefix) {
			if err != nil {
				yield(nil, err)
				return
			}
			if len(all) > 0 && all[0].Key != v.Key {
				if !yield(all, nil) {
					return
				}
				all = nil
			}
			all = append(all, v)
		}
		if len(all) > 0 {
			yield(all, nil)
		}
	}
}

// over returns what lies over an object, of which all are the versions and
// markers. Of objects that are not there any more, nothing does.
func (s *Store) over(all []version) []archive.Shadow {
	oldest := oldestOf(all)
	name, ours := s.name(all[0].Key)
	if oldest < 0 || !ours {
		return nil
	}
	var shadows []archive.Shadow
	for i, v := range all {
		// Should a server list markers apart, their time says what they hide.
		if i < oldest || v.marker() && v.LastModified.After(all[oldest].LastModified) {
			shadows = append(shadows, archive.Shadow{
				Name: name, Version: v.ID, Marker: v.marker(), Size: v.Size, Modified: v.LastModified.UTC(),
			})
		}
	}
	return shadows
}

func oldestOf(all []version) int {
	for i := len(all) - 1; i >= 0; i-- {
		if !all[i].marker() {
			return i
		}
	}
	return -1
}

// name returns the name of the object at key, and whether it can be of this
// archive: the bucket may hold others, and folders of other tools.
func (s *Store) name(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, s.root())
	return name, ok && archive.CheckName(name) == nil
}
