package oss

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/otsnap/otsnap/archive"
	"github.com/otsnap/otsnap/archive/internal/remote"
)

// Get opens the object called name. What is read is compared with the CRC64 the
// service has of it, if it tells one, which it always does for what Put stored.
// Where it differs the object is read once more: if other bytes come, they were
// damaged on the way, which is an error; if the same, the service keeps them
// damaged, and the digest that was signed has to say so.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, err
	}
	var body *checked
	err = s.found(ctx, key, func(version string) error {
		if body != nil {
			body.Close()
		}
		body, err = s.open(ctx, key, version)
		if err == nil {
			body.again = func() (*checked, error) { return s.open(ctx, key, version) }
		}
		return err
	})
	if err != nil {
		if body != nil {
			body.Close()
		}
		return nil, failed(ctx, "get", name, err)
	}
	body.name = name
	return body, nil
}

// open opens a version of the object at key. Where the connection breaks off it
// goes on with the same bytes, or fails.
func (s *Store) open(ctx context.Context, key, version string) (*checked, error) {
	var first http.Header
	body, err := remote.NewBody(ctx, s.retry, func(offset int64) (part remote.Part, err error) {
		if first != nil && offset == contentLength(first) {
			return remote.Part{Body: http.NoBody, Size: offset}, nil
		}
		err = s.authorized(func() error {
			part, err = s.part(ctx, key, version, offset, &first)
			return err
		})
		return part, err
	})
	if err != nil {
		return nil, err
	}
	c := &checked{Body: body, ctx: ctx, name: key}
	c.want, c.told = crcOf(first)
	return c, nil
}

// part asks for an object from offset on. The header of the first answer, at
// offset 0, says what the others must belong to.
func (s *Store) part(ctx context.Context, key, version string, offset int64, first *http.Header) (remote.Part, error) {
	c := call{method: http.MethodGet, key: key, right: "oss:GetObject"}.version(version)
	if offset > 0 {
		c.options = []oss.Option{
			oss.NormalizedRange(strconv.FormatInt(offset, 10) + "-"),
			oss.RangeBehavior("standard"), // else a range that cannot be is answered with the whole
			oss.IfMatch((*first).Get("ETag")),
		}
	}
	resp, err := s.send(ctx, c)
	if err != nil {
		return remote.Part{}, err
	}
	if offset == 0 {
		if _, told := crcOf(resp.Headers); !told && contentLength(resp.Headers) < 0 {
			resp.Body.Close()
			return remote.Part{}, errors.New("the answer tells neither length nor CRC64, so that its end could be anywhere; is there a proxy?")
		}
		*first = resp.Headers
		return remote.Part{Body: resp.Body, Size: contentLength(resp.Headers)}, nil
	}
	start, size, ok := contentRange(resp.Headers)
	if resp.StatusCode != http.StatusPartialContent || !ok || start != offset {
		resp.Body.Close()
		return remote.Part{}, fmt.Errorf("asked for the bytes from %d on, the answer has others", offset)
	}
	return remote.Part{Body: resp.Body, Size: size}, nil
}

// contentLength is the length of a whole object, -1 if it is not told.
func contentLength(header http.Header) int64 {
	n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

var rangeForm = regexp.MustCompile(`^bytes (\d+)-\d+/(\d+)$`)

// contentRange returns where a part begins, and the length of the whole object.
func contentRange(header http.Header) (start, size int64, ok bool) {
	found := rangeForm.FindStringSubmatch(header.Get("Content-Range"))
	if found == nil {
		return 0, 0, false
	}
	start, err1 := strconv.ParseInt(found[1], 10, 64)
	size, err2 := strconv.ParseInt(found[2], 10, 64)
	return start, size, err1 == nil && err2 == nil
}

// crcOf returns the CRC64 the service has of an object, and whether it told one.
func crcOf(header http.Header) (uint64, bool) {
	crc, err := strconv.ParseUint(header.Get(oss.HTTPHeaderOssCRC64), 10, 64)
	return crc, err == nil
}

var crcTable = crc64.MakeTable(crc64.ECMA)

var errDamaged = errors.New("damaged on the way")

// checked is a body that ends well only if its CRC64 is that of the object.
type checked struct {
	*remote.Body
	ctx  context.Context
	name string
	crc  uint64
	want uint64
	told bool // there is a CRC64 to compare with
	err  error

	again func() (*checked, error) // opens the same once more; may be nil
}

func (c *checked) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Body.Read(p)
	c.crc = crc64.Update(c.crc, crcTable, p[:n])
	switch {
	case err == io.EOF && c.told && c.crc != c.want:
		err = c.damaged()
	case err != nil && err != io.EOF:
		err = failed(c.ctx, "get", c.name, err)
	}
	c.err = err
	return n, err
}

// damaged is the error with which a body of another CRC64 ends: none but io.EOF
// if it is the object that has it.
func (c *checked) damaged() error {
	err := fmt.Errorf("%w: its CRC64 is %d, the service has %d; try again", errDamaged, c.crc, c.want)
	if c.again != nil {
		same, readErr := c.sameAgain()
		if same {
			return io.EOF
		}
		if readErr != nil {
			err = fmt.Errorf("%w (read once more: %v)", err, readErr)
		}
	}
	return failed(c.ctx, "get", c.name, err)
}

// sameAgain reads the object once more, and reports whether the same bytes came
// of it: damage on the way is hardly twice the same.
func (c *checked) sameAgain() (bool, error) {
	second, err := c.again()
	if err != nil {
		return false, err
	}
	defer second.Close()
	sum := crc64.New(crcTable)
	if _, err := io.Copy(sum, second.Body); err != nil {
		return false, err
	}
	return second.told && second.want == c.want && sum.Sum64() == c.crc, nil
}

// Inspect returns what the service knows of the object called name. Its lock is
// that of the bucket, if that is complete: one that is still open ends by itself.
func (s *Store) Inspect(ctx context.Context, name string) (archive.Info, error) {
	key, err := s.key(name)
	if err != nil {
		return archive.Info{}, err
	}
	info, _, err := s.inspect(ctx, name, key)
	if err == nil {
		info.Lock, err = s.lockOf(ctx, info.Modified)
	}
	if err != nil {
		return archive.Info{}, failed(ctx, "inspect", name, err)
	}
	return info, nil
}

// inspect is Inspect without the lock.
func (s *Store) inspect(ctx context.Context, name, key string) (info archive.Info, version string, err error) {
	var header http.Header
	err = s.found(ctx, key, func(id string) error {
		version = id
		header, err = s.head(ctx, key, id)
		return err
	})
	if err != nil {
		return info, "", err
	}
	info, err = infoOf(header)
	info.Name = name
	return info, version, err
}

func infoOf(header http.Header) (archive.Info, error) {
	modified, err := http.ParseTime(header.Get("Last-Modified"))
	if err != nil {
		return archive.Info{}, errors.New("the service does not say when it was last modified")
	}
	info := archive.Info{
		Version:    oss.GetVersionId(header),
		Modified:   modified.UTC(),
		Class:      header.Get(oss.HTTPHeaderOssStorageClass),
		Encryption: header.Get(oss.HTTPHeaderOssServerSideEncryption),
	}
	if info.Size = contentLength(header); info.Size < 0 {
		return archive.Info{}, errors.New("the service does not say how long it is")
	}
	info.Frozen = slices.Contains(frozenClasses, info.Class)
	if info.Frozen {
		now, err := http.ParseTime(header.Get("Date"))
		if err != nil {
			now = time.Now()
		}
		thawed(&info, header.Get("X-Oss-Restore"), now)
	}
	return info, nil
}

var expiryForm = regexp.MustCompile(`expiry-date="([^"]*)"`)

// thawed adds what the header x-oss-restore says of an object in an archive tier
// when the service's clock shows now.
func thawed(info *archive.Info, restore string, now time.Time) {
	if strings.Contains(restore, `ongoing-request="true"`) {
		info.Thawing = true
		return
	}
	found := expiryForm.FindStringSubmatch(restore)
	if found == nil {
		return
	}
	if until, err := http.ParseTime(found[1]); err == nil && now.Before(until) {
		info.Frozen, info.ThawedTo = false, until.UTC()
	}
}

// List yields the objects whose names begin with prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		if !utf8.ValidString(prefix) {
			return // names are UTF-8
		}
		state, err := s.stateNow(ctx)
		if err != nil {
			yield(archive.Object{}, failed(ctx, "list", prefix+"*", err))
			return
		}
		list := s.oldest
		if state == plain {
			list = s.newest
		}
		for o, err := range list(ctx, s.root()+prefix) {
			if err != nil {
				yield(archive.Object{}, failed(ctx, "list", prefix+"*", err))
				return
			}
			name, ours := s.name(o.Name)
			if ours && !yield(archive.Object{Name: name, Size: o.Size}, nil) {
				return
			}
		}
	}
}

// oldest lists the oldest versions of the objects whose keys begin with prefix.
func (s *Store) oldest(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for all, err := range s.histories(ctx, prefix) {
			if err != nil {
				yield(archive.Object{}, err)
				return
			}
			if i := oldestOf(all); i >= 0 && !yield(archive.Object{Name: all[i].Key, Size: all[i].Size}, nil) {
				return
			}
		}
	}
}

// objectPage is an answer to a listing of objects.
type objectPage struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	Encoding    string   `xml:"EncodingType"`
	IsTruncated bool
	Contents    []struct {
		Key  string
		Size int64
	}
}

// newest lists the objects whose keys begin with prefix as everybody sees them.
func (s *Store) newest(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for after, more := "", true; more; {
			page, err := s.objectPage(ctx, prefix, after)
			if err == nil && page.IsTruncated && len(page.Contents) == 0 {
				err = errors.New("a listing that does not go on")
			}
			if err != nil {
				yield(archive.Object{}, err)
				return
			}
			for _, o := range page.Contents {
				if o.Key <= after {
					yield(archive.Object{}, errOrder)
					return
				}
				if !yield(archive.Object{Name: o.Key, Size: o.Size}, nil) {
					return
				}
				after = o.Key
			}
			more = page.IsTruncated
		}
	}
}

func (s *Store) objectPage(ctx context.Context, prefix, after string) (objectPage, error) {
	params := map[string]any{"list-type": "2", "prefix": prefix, "max-keys": pageSize, "encoding-type": "url"}
	if after != "" {
		params["start-after"] = after
	}
	_, answer, err := s.ask(ctx, call{method: http.MethodGet, params: params, right: "oss:ListObjects"}, nil)
	if err != nil {
		return objectPage{}, err
	}
	var page objectPage
	if err := xml.Unmarshal(answer, &page); err != nil {
		return objectPage{}, fmt.Errorf("a listing that cannot be read: %w", err)
	}
	for i := range page.Contents {
		if page.Contents[i].Key, err = decoded(page.Contents[i].Key, page.Encoding); err != nil {
			return objectPage{}, err
		}
	}
	return page, nil
}

// Delete removes the object called name, with all its versions and markers, the
// oldest version last: until that is gone, the object is there.
func (s *Store) Delete(ctx context.Context, name string) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	return failed(ctx, "delete", name, s.delete(ctx, key))
}

func (s *Store) delete(ctx context.Context, key string) error {
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	if !state.keeps() {
		// Deleting what is not there is a success for OSS. The answer also tells
		// whether there are versions after all.
		if _, err := s.head(ctx, key, ""); err != nil {
			if state, _ := s.state(ctx); !state.keeps() {
				return err
			}
		}
		if state, _ = s.state(ctx); !state.keeps() {
			return s.remove(ctx, key, "")
		}
	}
	all, oldest, err := s.history(ctx, key)
	if err != nil {
		return err
	}
	if oldest < 0 {
		return fs.ErrNotExist
	}
	for i, v := range all {
		if i != oldest {
			if err := s.remove(ctx, key, v.ID); err != nil {
				return err
			}
		}
	}
	return s.remove(ctx, key, all[oldest].ID)
}
