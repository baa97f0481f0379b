package osstest

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const (
	defaultKeys = 100 // in one reply, where the request does not say
	maxKeys     = 1000
)

// owner is who everything belongs to.
type owner struct {
	ID          string
	DisplayName string
}

var theOwner = owner{"1234567890123456", "1234567890123456"}

type prefixes struct{ Prefix string }

type listedObject struct {
	Key          string
	LastModified string
	ETag         string
	Type         string
	Size         int64
	StorageClass string
	RestoreInfo  string `xml:",omitempty"`
	Owner        *owner `xml:",omitempty"`
}

type listReply struct {
	XMLName      xml.Name `xml:"ListBucketResult"`
	Name         string
	Prefix       string
	MaxKeys      int
	Delimiter    string
	EncodingType string `xml:",omitempty"`
	IsTruncated  bool

	// ListObjects
	Marker     *string
	NextMarker string `xml:",omitempty"`

	// ListObjectsV2
	StartAfter            string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              *int

	Contents       []listedObject
	CommonPrefixes []prefixes
}

// encoding is how the request wants names in the reply.
func (c *call) encoding() (func(string) string, error) {
	switch value := c.query.get("encoding-type"); value {
	case "":
		return func(s string) string { return s }, nil
	case "url":
		return escape, nil
	default:
		return nil, argument("encoding-type", value, "Invalid Encoding Method specified in Request.")
	}
}

// number is a parameter between least and most; absent it is other.
func (c *call) number(name string, least, most, other int) (int, error) {
	if !c.query.has(name) {
		return other, nil
	}
	n, err := strconv.Atoi(c.query.get(name))
	if err != nil || n < least || n > most {
		return 0, argument(name, c.query.get(name), "Argument "+name+" must be an integer between "+strconv.Itoa(least)+" and "+strconv.Itoa(most)+".")
	}
	return n, nil
}

// listing is what all lists have in common.
type listing struct {
	prefix, delimiter string
	max               int
	encode            func(string) string
}

func (c *call) listing() (listing, error) {
	l := listing{prefix: c.query.get("prefix"), delimiter: c.query.get("delimiter")}
	var err error
	if l.encode, err = c.encoding(); err != nil {
		return l, err
	}
	l.max, err = c.number("max-keys", 1, maxKeys, defaultKeys)
	return l, err
}

// common is the common prefix key is listed as, if any.
func (l listing) common(key string) (string, bool) {
	if l.delimiter == "" {
		return "", false
	}
	at := strings.Index(key[len(l.prefix):], l.delimiter)
	if at < 0 {
		return "", false
	}
	return key[:len(l.prefix)+at+len(l.delimiter)], true
}

// after returns the keys of b with the prefix, behind marker.
func (l listing) after(b *bucket, marker string) []string {
	from, exact := slices.BinarySearch(b.keys, max(marker, l.prefix))
	if exact && marker >= l.prefix && marker != "" {
		from++
	}
	keys := b.keys[from:]
	return keys[:sort.Search(len(keys), func(i int) bool { return !strings.HasPrefix(keys[i], l.prefix) })]
}

func (c *call) listObjects() error {
	l, err := c.listing()
	if err != nil {
		return err
	}
	if t := c.query.get("list-type"); t == "2" {
		return c.listObjectsV2(l)
	} else if t != "" {
		return argument("list-type", t, "The list-type must be 2.")
	}
	marker := c.query.get("marker")
	return c.change(func(b *bucket) error {
		reply, next := c.page(b, l, marker, true)
		encoded := l.encode(marker)
		reply.Marker = &encoded
		if reply.IsTruncated {
			reply.NextMarker = l.encode(next)
		}
		return c.reply(http.StatusOK, reply)
	})
}

func (c *call) listObjectsV2(l listing) error {
	marker := c.query.get("start-after")
	token := c.query.get("continuation-token")
	if token != "" {
		text, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return argument("continuation-token", token, "The continuation token is not valid.")
		}
		marker = string(text)
	}
	return c.change(func(b *bucket) error {
		reply, next := c.page(b, l, marker, c.query.get("fetch-owner") == "true")
		reply.StartAfter, reply.ContinuationToken = l.encode(c.query.get("start-after")), token
		count := len(reply.Contents) + len(reply.CommonPrefixes)
		reply.KeyCount = &count
		if reply.IsTruncated {
			reply.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(next))
		}
		return c.reply(http.StatusOK, reply)
	})
}

// page lists the latest versions behind marker, and returns the marker of the
// page after it.
func (c *call) page(b *bucket, l listing, marker string, owners bool) (reply listReply, next string) {
	reply = listReply{
		Name: b.Name, Prefix: l.encode(l.prefix), MaxKeys: l.max, Delimiter: l.encode(l.delimiter),
		EncodingType: c.query.get("encoding-type"),
	}
	count := 0
	for _, key := range l.after(b, marker) {
		v := b.latest(key)
		common, grouped := l.common(key)
		if v == nil || grouped && (common == next || common == marker) {
			continue
		}
		if count == l.max {
			reply.IsTruncated = true
			break
		}
		count++
		if next = key; grouped {
			next = common
			reply.CommonPrefixes = append(reply.CommonPrefixes, prefixes{l.encode(common)})
			continue
		}
		reply.Contents = append(reply.Contents, c.listed(v, l, owners))
	}
	return reply, next
}

func (c *call) listed(v *version, l listing, owners bool) listedObject {
	o := listedObject{
		Key: l.encode(v.Key), LastModified: v.Modified.Format(xmlTime), ETag: quote(v.ETag), Type: v.Type,
		Size: v.Size, StorageClass: v.Class, RestoreInfo: v.Restore.describe(c.now),
	}
	if owners {
		o.Owner = &theOwner
	}
	return o
}

type listedVersion struct {
	XMLName      xml.Name // Version or DeleteMarker
	Key          string
	VersionID    string `xml:"VersionId"`
	IsLatest     bool
	LastModified string
	ETag         string `xml:",omitempty"`
	Type         string `xml:",omitempty"`
	Size         *int64
	StorageClass string `xml:",omitempty"`
	RestoreInfo  string `xml:",omitempty"`
	Owner        owner
}

type versionsReply struct {
	XMLName             xml.Name `xml:"ListVersionsResult"`
	Name                string
	Prefix              string
	KeyMarker           string
	VersionIDMarker     string `xml:"VersionIdMarker"`
	MaxKeys             int
	Delimiter           string
	EncodingType        string `xml:",omitempty"`
	IsTruncated         bool
	NextKeyMarker       string `xml:",omitempty"`
	NextVersionIDMarker string `xml:"NextVersionIdMarker,omitempty"`
	Entries             []listedVersion
	CommonPrefixes      []prefixes
}

func (c *call) listVersions() error {
	l, err := c.listing()
	if err != nil {
		return err
	}
	key, id := c.query.get("key-marker"), c.query.get("version-id-marker")
	if key == "" && id != "" {
		return argument("version-id-marker", id, "A version-id-marker needs a key-marker.")
	}
	return c.change(func(b *bucket) error {
		return c.reply(http.StatusOK, c.versionsPage(b, l, key, id))
	})
}

func (c *call) versionsPage(b *bucket, l listing, keyMarker, idMarker string) versionsReply {
	reply := versionsReply{
		Name: b.Name, Prefix: l.encode(l.prefix), KeyMarker: l.encode(keyMarker), VersionIDMarker: l.encode(idMarker),
		MaxKeys: l.max, Delimiter: l.encode(l.delimiter), EncodingType: c.query.get("encoding-type"),
	}
	count, lastKey, lastID := 0, "", ""
	// take makes room for one more entry; false ends the page.
	take := func(key, id string) bool {
		if count == l.max {
			reply.IsTruncated = true
			reply.NextKeyMarker, reply.NextVersionIDMarker = l.encode(lastKey), l.encode(lastID)
			return false
		}
		count, lastKey, lastID = count+1, key, id
		return true
	}
	if idMarker != "" && strings.HasPrefix(keyMarker, l.prefix) {
		for i, v := range b.objects[keyMarker] {
			if !v.olderThan(b.objects[keyMarker], idMarker) {
				continue
			}
			if !take(keyMarker, v.ID) {
				return reply
			}
			reply.Entries = append(reply.Entries, c.listedVersion(v, i == 0, l))
		}
	}
	for _, key := range l.after(b, keyMarker) {
		if common, grouped := l.common(key); grouped {
			if common == lastKey || common == keyMarker {
				continue
			}
			if !take(common, "") {
				return reply
			}
			reply.CommonPrefixes = append(reply.CommonPrefixes, prefixes{l.encode(common)})
			continue
		}
		for i, v := range b.objects[key] {
			if !take(key, v.ID) {
				return reply
			}
			reply.Entries = append(reply.Entries, c.listedVersion(v, i == 0, l))
		}
	}
	return reply
}

// olderThan tells whether v comes behind the version with that id, which may be
// gone meanwhile.
func (v *version) olderThan(all []*version, id string) bool {
	for _, other := range all {
		if other.ID == id {
			return v.Sequence < other.Sequence
		}
	}
	if number, ok := strings.CutPrefix(id, "CAEQ"); ok && len(number) > 16 {
		if n, err := strconv.ParseUint(number[:16], 16, 64); err == nil {
			return v.Sequence < n
		}
	}
	return false
}

func (c *call) listedVersion(v *version, latest bool, l listing) listedVersion {
	e := listedVersion{
		XMLName: xml.Name{Local: "DeleteMarker"}, Key: l.encode(v.Key), VersionID: v.ID, IsLatest: latest,
		LastModified: v.Modified.Format(xmlTime), Owner: theOwner,
	}
	if v.Marker {
		return e
	}
	e.XMLName.Local, e.ETag, e.Type, e.Size = "Version", quote(v.ETag), v.Type, &v.Size
	e.StorageClass, e.RestoreInfo = v.Class, v.Restore.describe(c.now)
	return e
}
