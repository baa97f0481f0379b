package osstest

import (
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// thawed is the state of a version that was asked to be restored.
type thawed struct {
	Tier         string
	Ready, Until time.Time // readable from, and before
	Days         int
}

func archived(class string) bool {
	return class == classArchive || class == classColdArchive || class == classDeepColdArchive
}

// frozen tells whether v cannot be read now.
func (v *version) frozen(now time.Time) bool {
	return archived(v.Class) && !v.Restore.readable(now)
}

func (t *thawed) readable(now time.Time) bool {
	return t != nil && !now.Before(t.Ready) && now.Before(t.Until)
}

func (t *thawed) underWay(now time.Time) bool { return t != nil && now.Before(t.Ready) }

// describe is the x-oss-restore header: empty for what is frozen.
func (t *thawed) describe(now time.Time) string {
	switch {
	case t.underWay(now):
		return `ongoing-request="true"`
	case t.readable(now):
		return `ongoing-request="false", expiry-date="` + t.Until.Format(http.TimeFormat) + `"`
	}
	return ""
}

// Tiers from the slowest to the fastest. Archive has none.
var tiers = map[string][]string{
	classColdArchive:     {"Bulk", "Standard", "Expedited"},
	classDeepColdArchive: {"Standard", "Expedited"},
}

// maxDays is how long a restored object may stay readable.
var maxDays = map[string]int{classArchive: 7, classColdArchive: 365, classDeepColdArchive: 365}

// documentedThaw is the longest a restore takes by the documentation.
func documentedThaw(class, tier string) time.Duration {
	switch class + " " + tier {
	case "Archive ":
		return time.Minute
	case "ColdArchive Expedited":
		return time.Hour
	case "ColdArchive Standard":
		return 5 * time.Hour
	case "ColdArchive Bulk", "DeepColdArchive Expedited":
		return 12 * time.Hour
	}
	return 48 * time.Hour
}

type restoreRequest struct {
	XMLName xml.Name `xml:"RestoreRequest"`
	Days    string   `xml:"Days"`
	Job     struct {
		Tier string `xml:"Tier"`
	} `xml:"JobParameters"`
}

// plan checks a request against the class it is for.
func (r restoreRequest) plan(class string) (tier string, days int, err error) {
	days = 1
	if r.Days != "" {
		if days, err = strconv.Atoi(r.Days); err != nil || days < 1 || days > maxDays[class] {
			return "", 0, argument("Days", r.Days, "The days of the restore are not valid.")
		}
	}
	if class == classArchive {
		return "", days, nil // has no tiers: what the request names is ignored
	}
	tier = r.Job.Tier
	if tier == "" {
		tier = "Standard"
	}
	if !slices.Contains(tiers[class], tier) {
		return "", 0, argument("Tier", tier, "The tier of the restore is not valid.")
	}
	return tier, days, nil
}

func (c *call) restoreObject() error {
	var request restoreRequest
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxXML+1))
	if err != nil {
		return errBody
	}
	if err := checkDigest(c.r.Header, body); err != nil {
		return err
	}
	if len(body) > 0 {
		if err := decodeXML(body, &request); err != nil {
			return err
		}
	}
	return c.change(func(b *bucket) error {
		v, err := b.readable(c.key, c.query.get("versionId"))
		if err != nil {
			return err
		}
		if !archived(v.Class) {
			return errNotArchived.with("Detail", "RestoreObject operation does not support this object storage class")
		}
		tier, days, err := request.plan(v.Class)
		if err != nil {
			return err
		}
		status, restore, err := v.thaw(tier, days, c.now, c.s.thaw(v.Class, tier))
		if err != nil {
			return err
		}
		changed := *v
		changed.Restore = restore
		if err := c.s.update(b, v, &changed); err != nil {
			return err
		}
		c.setVersion(b, v)
		if tier != "" {
			c.w.Header().Set("X-Oss-Object-Restore-Priority", tier)
		}
		return c.done(status)
	})
}

// thaw decides what a request to restore v does: it starts one, makes one under
// way faster, or keeps what is restored for longer.
func (v *version) thaw(tier string, days int, now time.Time, takes time.Duration) (status int, t *thawed, err error) {
	lasts := time.Duration(days) * 24 * time.Hour
	switch {
	case v.Restore.underWay(now):
		order := tiers[v.Class]
		if slices.Index(order, tier) <= slices.Index(order, v.Restore.Tier) {
			return 0, nil, errRestoring
		}
		ready := now.Add(takes)
		if v.Restore.Ready.Before(ready) {
			ready = v.Restore.Ready
		}
		return http.StatusAccepted, &thawed{tier, ready, ready.Add(lasts), days}, nil
	case v.Restore.readable(now):
		longer := *v.Restore
		if until := now.Add(lasts); until.After(longer.Until) {
			longer.Until, longer.Days = until, days
		}
		return http.StatusOK, &longer, nil
	}
	ready := now.Add(takes)
	return http.StatusAccepted, &thawed{tier, ready, ready.Add(lasts), days}, nil
}

// update puts changed in the place of v, of which it has the bytes.
func (s *Server) update(b *bucket, v, changed *version) error {
	all := slices.Clone(b.objects[v.Key])
	all[slices.Index(all, v)] = changed
	if err := s.disk.saveObject(b, v.Key, all); err != nil {
		return err
	}
	b.objects[v.Key] = all
	return nil
}
