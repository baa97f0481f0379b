package oss

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Tiers names the speeds at which objects thaw, fastest first. Objects of class
// Archive have one speed, about a minute; ColdArchive takes 1, 5 or 12 hours, and
// DeepColdArchive, which has no Bulk, 12 or 48.
func (s *Store) Tiers() []string { return []string{"Expedited", "Standard", "Bulk"} }

// tiersOf is what the classes that thaw take.
var tiersOf = map[string][]string{
	"Archive":         nil,
	"ColdArchive":     {"Expedited", "Standard", "Bulk"},
	"DeepColdArchive": {"Expedited", "Standard"},
}

// daysOf is for how many days a copy can be asked for at most.
var daysOf = map[string]int{"Archive": 7, "ColdArchive": 365, "DeepColdArchive": 365}

// Thaw asks for a readable copy of the object called name. The tier does not
// matter for class Archive, which has but one. Of an object that is readable
// already nothing is asked, unless it was thawed: then it stays so for longer.
func (s *Store) Thaw(ctx context.Context, name string, days int, tier string) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	return failed(ctx, "thaw", name, s.thaw(ctx, name, key, days, tier))
}

func (s *Store) thaw(ctx context.Context, name, key string, days int, tier string) error {
	if tier != "" && !slices.Contains(s.Tiers(), tier) {
		return fmt.Errorf("tier %q: there are %s: %w", tier, strings.Join(s.Tiers(), ", "), errors.ErrUnsupported)
	}
	info, version, err := s.inspect(ctx, name, key)
	if err != nil {
		return err
	}
	tiers, frozen := tiersOf[info.Class]
	if !frozen {
		return nil
	}
	if most := daysOf[info.Class]; days < 1 || days > most {
		return fmt.Errorf("%d days: class %s is thawed for 1 to %d: %w", days, info.Class, most, errors.ErrUnsupported)
	}
	request := restoreRequest{Days: days}
	if len(tiers) > 0 {
		if tier == "" {
			tier = "Standard"
		}
		request.Job = &restoreJob{tier}
		if !slices.Contains(tiers, tier) {
			return fmt.Errorf("tier %s: class %s has %s: %w", tier, info.Class, strings.Join(tiers, ", "), errors.ErrUnsupported)
		}
	}
	return s.restore(ctx, key, version, request)
}

// restoreRequest has no job for class Archive, which takes none; the SDK's own
// type always has one.
type restoreRequest struct {
	XMLName xml.Name `xml:"RestoreRequest"`
	Days    int
	Job     *restoreJob `xml:"JobParameters"`
}

type restoreJob struct{ Tier string }

func (s *Store) restore(ctx context.Context, key, version string, request restoreRequest) error {
	body, err := xml.Marshal(request)
	if err != nil {
		return err
	}
	c := call{method: http.MethodPost, key: key, right: "oss:RestoreObject"}.version(version)
	if c.params == nil {
		c.params = map[string]any{}
	}
	c.params["restore"] = nil
	c.options = []oss.Option{oss.ContentType("application/xml")}
	_, _, err = s.ask(ctx, c, body)
	if hasCode(err, "RestoreAlreadyInProgress") {
		return nil
	}
	return err
}
