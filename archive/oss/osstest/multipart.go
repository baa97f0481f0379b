package osstest

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	maxPartNumber = 10000
	minPartSize   = 100 << 10 // bytes, but for the last
)

// upload is a multipart upload under way. It is saved as JSON.
type upload struct {
	ID        string
	Object    *version // what it will be, without content
	Initiated time.Time
	Parts     map[int]part
}

type part struct {
	Blob     string
	Size     int64
	ETag     string // without quotes
	CRC      uint64 `json:",string"`
	Modified time.Time
}

// remove removes the bytes of all parts.
func (u *upload) remove(b blobs) {
	for _, p := range u.Parts {
		b.remove(p.Blob)
	}
}

// upload finds the one that the request names.
func (c *call) upload(b *bucket) (*upload, error) {
	u := b.uploads[c.query.get("uploadId")]
	if u == nil || u.Object.Key != c.key {
		return nil, errNoUpload
	}
	return u, nil
}

func (c *call) initiateUpload() error {
	encode, err := c.encoding()
	if err != nil {
		return err
	}
	v, err := c.newVersion()
	if err != nil {
		return err
	}
	v.Type = "Multipart"
	forbidOverwrite, err := c.forbidOverwrite()
	if err != nil {
		return err
	}
	u := &upload{ID: randomID(16), Object: v, Initiated: c.now, Parts: map[int]part{}}
	return c.change(func(b *bucket) error {
		if bool(forbidOverwrite) && b.Versioning == "" && b.latest(c.key) != nil {
			return errExists
		}
		b.settle(v)
		if err := c.s.disk.saveUpload(b, u); err != nil {
			return err
		}
		b.uploads[u.ID] = u
		c.setEncryption(v)
		return c.reply(http.StatusOK, struct {
			XMLName      xml.Name `xml:"InitiateMultipartUploadResult"`
			EncodingType string   `xml:",omitempty"`
			Bucket       string
			Key          string
			UploadID     string `xml:"UploadId"`
		}{EncodingType: c.query.get("encoding-type"), Bucket: b.Name, Key: encode(c.key), UploadID: u.ID})
	})
}

func (c *call) uploadPart() error {
	if !c.query.has("partNumber") {
		return argument("partNumber", "", "A part needs its number.")
	}
	number, err := c.number("partNumber", 1, maxPartNumber, 0)
	if err != nil {
		return err
	}
	err = c.change(func(b *bucket) error {
		_, err := c.upload(b)
		return err
	})
	if err != nil {
		return err
	}
	copied := c.r.Header.Get("X-Oss-Copy-Source") != ""
	got, err := c.partBody(copied)
	if err != nil {
		return err
	}
	p := part{Blob: got.Blob, Size: got.Size, CRC: got.CRC, ETag: strings.ToUpper(hex.EncodeToString(got.MD5[:])), Modified: c.s.now()}
	if err := c.change(func(b *bucket) error { return c.addPart(b, number, p) }); err != nil {
		c.s.blobs.remove(got.Blob)
		return err
	}
	c.setDigests(&version{ETag: p.ETag, CRC: p.CRC})
	if copied {
		return c.reply(http.StatusOK, copyReply{xml.Name{Local: "CopyPartResult"}, p.Modified.Format(xmlTime), quote(p.ETag)})
	}
	return c.done(http.StatusOK)
}

func (c *call) addPart(b *bucket, number int, p part) error {
	u, err := c.upload(b)
	if err != nil {
		return err
	}
	changed := *u
	changed.Parts = maps.Clone(u.Parts)
	changed.Parts[number] = p
	if err := c.s.disk.saveUpload(b, &changed); err != nil {
		return err
	}
	c.s.blobs.remove(u.Parts[number].Blob)
	b.uploads[u.ID] = &changed
	return nil
}

// partBody stores what the request sends, or the part of another object that it
// names.
func (c *call) partBody(copied bool) (received, error) {
	if !copied {
		return c.body()
	}
	source, body, err := c.copySource()
	if err != nil {
		return received{}, err
	}
	defer body.Close()
	want := span{Size: source.Size}
	if text := c.r.Header.Get("X-Oss-Copy-Source-Range"); text != "" {
		h := http.Header{"Range": {text}, "X-Oss-Range-Behavior": {"standard"}}
		if want, err = rangeOf(h, source.Size); err != nil {
			return received{}, err
		}
	}
	if want.Size > maxPut {
		return received{}, errTooLarge
	}
	if _, err := body.Seek(want.From, io.SeekStart); err != nil {
		return received{}, err
	}
	return c.s.receive(io.LimitReader(body, want.Size), want.Size)
}

type completeRequest struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		Number int    `xml:"PartNumber"`
		ETag   string `xml:"ETag"`
	} `xml:"Part"`
}

// chosen returns the parts of u that a request lists, in order.
func (r completeRequest) chosen(u *upload) ([]part, error) {
	if len(r.Parts) == 0 || len(r.Parts) > maxPartNumber {
		return nil, errXML
	}
	for i, want := range r.Parts[1:] {
		if want.Number <= r.Parts[i].Number {
			return nil, errPartOrder
		}
	}
	var list []part
	for i, want := range r.Parts {
		p, ok := u.Parts[want.Number]
		if !ok || !strings.EqualFold(strings.Trim(want.ETag, `"`), p.ETag) {
			return nil, errPart.with("PartNumber", fmt.Sprint(want.Number))
		}
		if p.Size < minPartSize && i < len(r.Parts)-1 {
			return nil, errPartTooSmall.with("PartNumber", fmt.Sprint(want.Number))
		}
		list = append(list, p)
	}
	return list, nil
}

func (c *call) completeUpload() error {
	encode, err := c.encoding()
	if err != nil {
		return err
	}
	if c.r.Header.Get("X-Oss-Complete-All") != "" {
		return unsupported("x-oss-complete-all")
	}
	forbidOverwrite, err := c.forbidOverwrite()
	if err != nil {
		return err
	}
	var request completeRequest
	if err := c.readXML(&request); err != nil {
		return err
	}
	v, u, err := c.assemble(request)
	if err != nil {
		return err
	}
	if err := c.replaceUpload(v, u, forbidOverwrite); err != nil {
		c.s.blobs.remove(v.Blob)
		return err
	}
	c.setDigests(v)
	c.setEncryption(v)
	return c.reply(http.StatusOK, struct {
		XMLName      xml.Name `xml:"CompleteMultipartUploadResult"`
		EncodingType string   `xml:",omitempty"`
		Location     string
		Bucket       string
		Key          string
		ETag         string
	}{
		EncodingType: c.query.get("encoding-type"), Bucket: c.bucket, Key: encode(c.key), ETag: quote(v.ETag),
		Location: "http://" + c.r.Host + c.r.URL.EscapedPath(),
	})
}

// assemble stores the object that the listed parts make.
func (c *call) assemble(request completeRequest) (*version, *upload, error) {
	var u *upload
	var opened []io.Reader
	sums, size := md5.New(), int64(0)
	err := c.change(func(b *bucket) error {
		var err error
		if u, err = c.upload(b); err != nil {
			return err
		}
		list, err := request.chosen(u)
		if err != nil {
			return err
		}
		for _, p := range list {
			opened = append(opened, &lazy{from: c.s.blobs, name: p.Blob})
			sum, err := hex.DecodeString(p.ETag)
			if err != nil {
				return err
			}
			sums.Write(sum)
			size += p.Size
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	got, err := c.s.receive(io.MultiReader(opened...), size)
	if err != nil {
		return nil, nil, cmp.Or(c.change(func(b *bucket) error { return current(b, u) }), err)
	}
	v := *u.Object
	v.take(got)
	v.ETag, v.MD5 = fmt.Sprintf("%X-%d", sums.Sum(nil), len(opened)), ""
	return &v, u, nil
}

// lazy opens a blob when it is read, and closes it at its end: an upload may have
// more parts than a process may have files.
type lazy struct {
	from blobs
	name string
	open io.ReadCloser
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.open == nil {
		r, err := l.from.open(l.name)
		if err != nil {
			return 0, err
		}
		l.open = r
	}
	n, err := l.open.Read(p)
	if err != nil {
		l.open.Close()
	}
	return n, err
}

// current refuses an upload that another request has ended or changed meanwhile.
func current(b *bucket, u *upload) error {
	if b.uploads[u.ID] != u {
		return errNoUpload
	}
	return nil
}

// replaceUpload adds v and drops the upload it came from, unless another request was
// faster.
func (c *call) replaceUpload(v *version, u *upload, forbidOverwrite forbid) error {
	return c.change(func(b *bucket) error {
		if err := current(b, u); err != nil {
			return err
		}
		if err := c.s.add(b, v, forbidOverwrite, c.s.now()); err != nil {
			return err
		}
		c.setVersion(b, v)
		if err := c.s.disk.dropUpload(b, u); err != nil {
			return err
		}
		delete(b.uploads, u.ID)
		u.remove(c.s.blobs)
		return nil
	})
}

func (c *call) abortUpload() error {
	return c.change(func(b *bucket) error {
		u, err := c.upload(b)
		if err != nil {
			return err
		}
		if err := c.s.disk.dropUpload(b, u); err != nil {
			return err
		}
		delete(b.uploads, u.ID)
		u.remove(c.s.blobs)
		return c.done(http.StatusNoContent)
	})
}

type listedPart struct {
	PartNumber   int
	LastModified string
	ETag         string
	HashCrc64    string `xml:"HashCrc64ecma"`
	Size         int64
}

func (c *call) listParts() error {
	encode, err := c.encoding()
	if err != nil {
		return err
	}
	most, err := c.number("max-parts", 1, maxKeys, maxKeys)
	if err != nil {
		return err
	}
	marker, err := c.number("part-number-marker", 0, maxPartNumber, 0)
	if err != nil {
		return err
	}
	reply := struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		EncodingType         string   `xml:",omitempty"`
		Bucket               string
		Key                  string
		UploadID             string `xml:"UploadId"`
		StorageClass         string
		PartNumberMarker     int
		NextPartNumberMarker int
		MaxParts             int
		IsTruncated          bool
		Part                 []listedPart
	}{
		EncodingType: c.query.get("encoding-type"), Bucket: c.bucket, Key: encode(c.key),
		UploadID: c.query.get("uploadId"), PartNumberMarker: marker, MaxParts: most,
	}
	return c.change(func(b *bucket) error {
		u, err := c.upload(b)
		if err != nil {
			return err
		}
		reply.StorageClass = u.Object.Class
		for _, number := range slices.Sorted(maps.Keys(u.Parts)) {
			if number <= marker {
				continue
			}
			if len(reply.Part) == most {
				reply.IsTruncated = true
				break
			}
			p := u.Parts[number]
			reply.Part = append(reply.Part, listedPart{number, p.Modified.Format(xmlTime), quote(p.ETag), formatCRC(p.CRC), p.Size})
			reply.NextPartNumberMarker = number
		}
		return c.reply(http.StatusOK, reply)
	})
}

type listedUpload struct {
	Key          string
	UploadID     string `xml:"UploadId"`
	StorageClass string
	Initiated    string
}

type uploadsReply struct {
	XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
	EncodingType       string   `xml:",omitempty"`
	Bucket             string
	KeyMarker          string
	UploadIDMarker     string `xml:"UploadIdMarker"`
	NextKeyMarker      string
	NextUploadIDMarker string `xml:"NextUploadIdMarker"`
	Delimiter          string
	Prefix             string
	MaxUploads         int
	IsTruncated        bool
	Upload             []listedUpload
	CommonPrefixes     []prefixes
}

func (c *call) listUploads() error {
	l := listing{prefix: c.query.get("prefix"), delimiter: c.query.get("delimiter")}
	var err error
	if l.encode, err = c.encoding(); err != nil {
		return err
	}
	if l.max, err = c.number("max-uploads", 1, maxKeys, maxKeys); err != nil {
		return err
	}
	return c.change(func(b *bucket) error { return c.reply(http.StatusOK, c.uploadsPage(b, l)) })
}

func (c *call) uploadsPage(b *bucket, l listing) uploadsReply {
	key, id := c.query.get("key-marker"), c.query.get("upload-id-marker")
	reply := uploadsReply{
		EncodingType: c.query.get("encoding-type"), Bucket: b.Name, KeyMarker: l.encode(key), UploadIDMarker: id,
		Delimiter: l.encode(l.delimiter), Prefix: l.encode(l.prefix), MaxUploads: l.max,
	}
	lastKey, lastID := "", ""
	for _, u := range slices.SortedFunc(maps.Values(b.uploads), compareUploads) {
		name := u.Object.Key
		if !strings.HasPrefix(name, l.prefix) || name < key || name == key && (id == "" || u.ID <= id) {
			continue
		}
		common, grouped := l.common(name)
		if grouped && (common == lastKey || common == key) {
			continue
		}
		if len(reply.Upload)+len(reply.CommonPrefixes) == l.max {
			reply.IsTruncated, reply.NextKeyMarker, reply.NextUploadIDMarker = true, l.encode(lastKey), lastID
			break
		}
		if lastKey, lastID = name, u.ID; grouped {
			lastKey, lastID = common, ""
			reply.CommonPrefixes = append(reply.CommonPrefixes, prefixes{l.encode(common)})
			continue
		}
		reply.Upload = append(reply.Upload, listedUpload{l.encode(name), u.ID, u.Object.Class, u.Initiated.Format(xmlTime)})
	}
	return reply
}

func compareUploads(a, b *upload) int {
	if by := strings.Compare(a.Object.Key, b.Object.Key); by != 0 {
		return by
	}
	return strings.Compare(a.ID, b.ID)
}
