package signer

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// place is a key of a key service and how to get there.
type place struct {
	scheme     string
	key        string
	parameters map[string]string
}

// String is the place without anything that need not be shown.
func (p place) String() string { return p.scheme + ":///" + p.key }

// parsePlace reads what is after the colon of scheme:///KEY?parameters. It does not
// quote text until it is known to hold no password.
func parsePlace(scheme, text string, parameters ...string) (place, error) {
	p := place{scheme: scheme, key: "…", parameters: map[string]string{}}
	refuse := func(err error) (place, error) {
		return place{}, &Error{Name: p.String(), Err: err, Advice: "see: otsnap key show --help"}
	}
	path, rawQuery, _ := strings.Cut(text, "?")
	path, found := strings.CutPrefix(path, "///")
	if !found || strings.ContainsAny(text, "#@") {
		return refuse(fmt.Errorf("write %s:///KEY, with no host, user or password; another server is endpoint=https://HOST", scheme))
	}
	key, err := url.PathUnescape(path)
	if err != nil || key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return refuse(errors.New("the key has no name, or one that cannot be"))
	}
	p.key = key
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return refuse(errors.New("parameters cannot be read; write name=value&name=value"))
	}
	for name, values := range query {
		if !slices.Contains(parameters, name) {
			return refuse(fmt.Errorf("no parameter %q; there are %s", name, strings.Join(parameters, ", ")))
		}
		if len(values) != 1 || values[0] == "" {
			return refuse(fmt.Errorf("parameter %s needs one value", name))
		}
		p.parameters[name] = values[0]
	}
	if err := p.checkEndpoint(); err != nil {
		return refuse(err)
	}
	return p, nil
}

// checkEndpoint makes a URL of the endpoint, if there is one.
func (p place) checkEndpoint() error {
	text := p.parameters["endpoint"]
	if text == "" {
		return nil
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return errors.New("the endpoint is no address; write scheme, host and port alone, as in endpoint=https://HOST:PORT")
	}
	p.parameters["endpoint"] = u.Scheme + "://" + u.Host
	return nil
}
