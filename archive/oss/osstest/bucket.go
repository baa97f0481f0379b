package osstest

import (
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

type listedBucket struct {
	XMLName          xml.Name `xml:"Bucket"`
	CreationDate     string
	ExtranetEndpoint string
	IntranetEndpoint string
	Location         string
	Name             string
	Region           string
	StorageClass     string
}

func (b *bucket) listed() listedBucket {
	return listedBucket{
		CreationDate: b.Created.Format(xmlTime), ExtranetEndpoint: "oss-" + b.Region + ".aliyuncs.com",
		IntranetEndpoint: "oss-" + b.Region + "-internal.aliyuncs.com", Location: "oss-" + b.Region,
		Name: b.Name, Region: b.Region, StorageClass: b.Class,
	}
}

type bucketsReply struct {
	XMLName     xml.Name `xml:"ListAllMyBucketsResult"`
	Prefix      string   `xml:",omitempty"`
	Marker      string   `xml:",omitempty"`
	MaxKeys     int
	IsTruncated bool
	NextMarker  string `xml:",omitempty"`
	Owner       owner
	Buckets     struct{ Bucket []listedBucket }
}

func (c *call) listBuckets() error {
	most, err := c.number("max-keys", 1, maxKeys, defaultKeys)
	if err != nil {
		return err
	}
	reply := bucketsReply{Prefix: c.query.get("prefix"), Marker: c.query.get("marker"), MaxKeys: most, Owner: theOwner}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.s.buckets)) {
		if name <= reply.Marker || !strings.HasPrefix(name, reply.Prefix) {
			continue
		}
		if n := len(reply.Buckets.Bucket); n == most {
			reply.IsTruncated, reply.NextMarker = true, reply.Buckets.Bucket[n-1].Name
			break
		}
		reply.Buckets.Bucket = append(reply.Buckets.Bucket, c.s.buckets[name].listed())
	}
	return c.reply(http.StatusOK, reply)
}

func (c *call) createBucket() error {
	if acl := c.r.Header.Get("X-Oss-Acl"); acl != "" && acl != "private" {
		return unsupported("x-oss-acl")
	}
	var request struct {
		XMLName    xml.Name `xml:"CreateBucketConfiguration"`
		Class      string   `xml:"StorageClass"`
		Redundancy string   `xml:"DataRedundancyType"`
	}
	if c.r.ContentLength != 0 {
		if err := c.readXML(&request); err != nil {
			return err
		}
	}
	o := BucketOptions{Class: request.Class, Region: c.s.options.Region}
	if o.Class == "" {
		o.Class = classStandard
	}
	if !slices.Contains(classes, o.Class) {
		return errXML
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if old := c.s.buckets[c.bucket]; old != nil {
		if request.Class != "" && request.Class != old.Class {
			return errBucketExists
		}
		return c.done(http.StatusOK) // the owner may ask for it again
	}
	b := newBucket(c.bucket, c.now, o)
	if err := c.s.disk.saveBucket(b); err != nil {
		return err
	}
	c.s.buckets[b.Name] = b
	c.w.Header().Set("Location", "/"+b.Name)
	return c.done(http.StatusOK)
}

func (c *call) deleteBucket() error {
	return c.change(func(b *bucket) error {
		if len(b.objects) > 0 || len(b.uploads) > 0 {
			return errBucketNotEmpty
		}
		if err := c.s.disk.dropBucket(b); err != nil {
			return err
		}
		delete(c.s.buckets, b.Name)
		return c.done(http.StatusNoContent)
	})
}

type grant struct{ Grant string }

type bucketInfoReply struct {
	XMLName xml.Name `xml:"BucketInfo"`
	Bucket  struct {
		listedBucket
		AccessMonitor          string
		DataRedundancyType     string
		TransferAcceleration   string
		CrossRegionReplication string
		Versioning             string `xml:",omitempty"`
		Owner                  owner
		AccessControlList      grant
		Encryption             encryptionReply `xml:"ServerSideEncryptionRule"`
	}
}

type encryptionReply struct {
	SSEAlgorithm   string
	KMSMasterKeyID string `xml:",omitempty"`
}

func (c *call) bucketInfo() error {
	return c.change(func(b *bucket) error {
		var reply bucketInfoReply
		reply.Bucket.listedBucket = b.listed()
		reply.Bucket.AccessMonitor, reply.Bucket.TransferAcceleration = "Disabled", "Disabled"
		reply.Bucket.DataRedundancyType, reply.Bucket.CrossRegionReplication = "LRS", "Disabled"
		reply.Bucket.Versioning, reply.Bucket.Owner = b.Versioning, theOwner
		reply.Bucket.AccessControlList = grant{"private"}
		reply.Bucket.Encryption = encryptionReply{"None", b.Encryption.KeyID}
		if b.Encryption.Algorithm != "" {
			reply.Bucket.Encryption.SSEAlgorithm = b.Encryption.Algorithm
		}
		return c.reply(http.StatusOK, reply)
	})
}

func (c *call) bucketLocation() error {
	return c.change(func(b *bucket) error {
		return c.reply(http.StatusOK, struct {
			XMLName xml.Name `xml:"LocationConstraint"`
			Text    string   `xml:",chardata"`
		}{Text: "oss-" + b.Region})
	})
}

func (c *call) getEncryption() error {
	return c.change(func(b *bucket) error {
		if b.Encryption.Algorithm == "" {
			return &fault{Status: 404, Code: "NoSuchServerSideEncryptionRule", Message: "The server side encryption configuration does not exist."}
		}
		return c.reply(http.StatusOK, struct {
			XMLName xml.Name        `xml:"ServerSideEncryptionRule"`
			Rule    encryptionReply `xml:"ApplyServerSideEncryptionByDefault"`
		}{Rule: encryptionReply{b.Encryption.Algorithm, b.Encryption.KeyID}})
	})
}

// getACL answers for buckets and objects: all is private.
func (c *call) getACL() error {
	return c.change(func(b *bucket) error {
		acl := "private"
		if c.key != "" {
			acl = "default"
			if _, err := b.readable(c.key, c.query.get("versionId")); err != nil {
				return err
			}
		}
		return c.reply(http.StatusOK, struct {
			XMLName           xml.Name `xml:"AccessControlPolicy"`
			Owner             owner
			AccessControlList grant
		}{Owner: theOwner, AccessControlList: grant{acl}})
	})
}

type versioningConfiguration struct {
	XMLName xml.Name `xml:"VersioningConfiguration"`
	Status  string   `xml:"Status,omitempty"`
}

func (c *call) getVersioning() error {
	return c.change(func(b *bucket) error {
		return c.reply(http.StatusOK, versioningConfiguration{Status: b.Versioning})
	})
}

func (c *call) putVersioning() error {
	var request versioningConfiguration
	if err := c.readXML(&request); err != nil {
		return err
	}
	if request.Status != versioningEnabled && request.Status != versioningSuspended {
		return errXML
	}
	return c.change(func(b *bucket) error {
		if b.Worm.holds(c.now) && (request.Status == versioningSuspended || c.s.options.WormRefusesVersioning) {
			return errVersioningWorm
		}
		changed := *b
		changed.Versioning = request.Status
		if err := c.s.disk.saveBucket(&changed); err != nil {
			return err
		}
		b.Versioning = request.Status
		return c.done(http.StatusOK)
	})
}

// worm is the retention policy of a bucket.
type worm struct {
	ID      string
	Days    int
	Created time.Time
	Locked  bool
}

const (
	wormOpen    = 24 * time.Hour // to lock a policy, from its creation
	maxWormDays = 25550          // 70 years
)

// expired tells whether w was not locked in time and is void.
func (w *worm) expired(now time.Time) bool {
	return w != nil && !w.Locked && now.Sub(w.Created) >= wormOpen
}

// holds tells whether w protects anything.
func (w *worm) holds(now time.Time) bool { return w != nil && !w.expired(now) }

func (w *worm) state(now time.Time) string {
	switch {
	case w.Locked:
		return "Locked"
	case w.expired(now):
		return "Expired"
	}
	return "InProgress"
}

// setWorm saves w as the bucket's policy.
func (c *call) setWorm(b *bucket, w *worm) error {
	changed := *b
	changed.Worm = w
	if err := c.s.disk.saveBucket(&changed); err != nil {
		return err
	}
	b.Worm = w
	return nil
}

// retention is the body of a request that starts or extends a policy.
type retention struct {
	XMLName xml.Name
	Days    int `xml:"RetentionPeriodInDays"`
}

func (c *call) readRetention(root string) (int, error) {
	var request retention
	if err := c.readXML(&request); err != nil {
		return 0, err
	}
	if request.XMLName.Local != root {
		return 0, errXML
	}
	if request.Days < 1 || request.Days > maxWormDays {
		return 0, errWorm
	}
	return request.Days, nil
}

func (c *call) initiateWorm() error {
	days, err := c.readRetention("InitiateWormConfiguration")
	if err != nil {
		return err
	}
	return c.change(func(b *bucket) error {
		switch {
		case b.Versioning == versioningSuspended,
			b.Versioning == versioningEnabled && c.s.options.WormRefusesVersioning:
			return errWormVersioning
		case b.Worm.holds(c.now) && b.Worm.Locked:
			return errWormLocked
		case b.Worm.holds(c.now):
			return errWorm
		}
		w := &worm{ID: randomID(16), Days: days, Created: c.now}
		if err := c.setWorm(b, w); err != nil {
			return err
		}
		c.w.Header().Set("X-Oss-Worm-Id", w.ID)
		return c.done(http.StatusOK)
	})
}

func (c *call) getWorm() error {
	return c.change(func(b *bucket) error {
		if b.Worm == nil {
			return errNoWorm
		}
		return c.reply(http.StatusOK, struct {
			XMLName               xml.Name `xml:"WormConfiguration"`
			WormID                string   `xml:"WormId"`
			State                 string
			RetentionPeriodInDays int
			CreationDate          string
		}{WormID: b.Worm.ID, State: b.Worm.state(c.now), RetentionPeriodInDays: b.Worm.Days,
			CreationDate: b.Worm.Created.Format("2006-01-02T15:04:05")})
	})
}

func (c *call) abortWorm() error {
	return c.change(func(b *bucket) error {
		switch {
		case b.Worm == nil:
			return errNoWorm
		case b.Worm.Locked:
			return errWormLocked
		}
		if err := c.setWorm(b, nil); err != nil {
			return err
		}
		return c.done(http.StatusNoContent)
	})
}

// named returns the policy a request names.
func (c *call) named(b *bucket) (worm, error) {
	if b.Worm == nil || b.Worm.ID != c.query.get("wormId") {
		return worm{}, errNoWorm
	}
	return *b.Worm, nil
}

func (c *call) completeWorm() error {
	return c.change(func(b *bucket) error {
		w, err := c.named(b)
		switch {
		case err != nil:
			return err
		case w.Locked:
			return errWormLocked
		case w.expired(c.now):
			return errWorm
		}
		w.Locked = true
		if err := c.setWorm(b, &w); err != nil {
			return err
		}
		return c.done(http.StatusOK)
	})
}

func (c *call) extendWorm() error {
	days, err := c.readRetention("ExtendWormConfiguration")
	if err != nil {
		return err
	}
	return c.change(func(b *bucket) error {
		w, err := c.named(b)
		switch {
		case err != nil:
			return err
		case !w.Locked || days <= w.Days:
			return errWorm
		}
		w.Days = days
		if err := c.setWorm(b, &w); err != nil {
			return err
		}
		return c.done(http.StatusOK)
	})
}
