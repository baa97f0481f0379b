package oss

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// call is one request.
type call struct {
	method  string
	key     string         // empty: of the bucket
	params  map[string]any // nil values have no '='
	options []oss.Option   // headers
	body    io.Reader
	right   string // the RAM action it needs
}

// version makes c one for a version of the object, which is another right; an
// empty one is the newest.
func (c call) version(id string) call {
	if id != "" {
		c.params = map[string]any{"versionId": id}
		c.right += "Version"
	}
	return c
}

// send sends c once. All requests go through it: it is the SDK's one call that
// takes a context for buckets, too, and returns the status with an error.
func (s *Store) send(ctx context.Context, c call) (*oss.Response, error) {
	if err := s.credentials.ready(ctx); err != nil {
		return nil, err
	}
	params := c.params
	if params == nil {
		params = map[string]any{}
	}
	options := append([]oss.Option{oss.WithContext(ctx)}, c.options...)
	resp, err := s.bucket.Do(c.method, c.key, params, options, c.body, nil)
	if resp != nil {
		s.reached.Store(true)
		s.heard(resp.Headers)
	}
	if resp != nil && c.key != "" {
		s.learn(resp.Headers)
	}
	if resp == nil {
		return nil, err
	}
	if err == nil && resp.Headers.Get(oss.HTTPHeaderOssRequestID) != "" {
		return resp, nil
	}
	resp.Body.Close() // also of a success that something else than OSS has told
	return nil, newRefusal(c.right, resp, err)
}

// authorized calls try, and once more with new credentials if those it had are
// no longer valid.
func (s *Store) authorized(try func() error) error {
	generation := s.credentials.generation()
	err := try()
	if hasCode(err, "SecurityTokenExpired", "InvalidSecurityToken") {
		s.credentials.renew(generation)
		return try()
	}
	return err
}

// do repeats try as far as it makes sense.
func (s *Store) do(ctx context.Context, try func(n int) error) error {
	return s.retry.Do(ctx, func(n int) error {
		return s.authorized(func() error { return try(n) })
	})
}

// maxAnswer is more than the longest answer that is not an object: a page of
// 1000 keys of 1023 bytes, each of which takes three in a URL.
const maxAnswer = 8 << 20

// ask sends c, with body if it has one, until there is an answer, and reads it.
func (s *Store) ask(ctx context.Context, c call, body []byte) (header http.Header, answer []byte, err error) {
	err = s.do(ctx, func(int) error {
		if body != nil {
			c.body = bytes.NewReader(body)
		}
		resp, err := s.send(ctx, c)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		header = resp.Headers
		answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		if err == nil && len(answer) > maxAnswer {
			return errors.New("an answer that does not end")
		}
		return err
	})
	return header, answer, err
}

// head asks what the service knows of a version of the object at key.
func (s *Store) head(ctx context.Context, key, version string) (http.Header, error) {
	header, _, err := s.ask(ctx, call{method: http.MethodHead, key: key, right: "oss:GetObject"}.version(version), nil)
	var r *refusal
	if errors.As(err, &r) && r.code == "" && !r.temporary() {
		// A HEAD has no body to say why, or which is missing, bucket or object.
		first := call{method: http.MethodGet, key: key, options: []oss.Option{oss.Range(0, 0)}, right: "oss:GetObject"}
		if _, _, why := s.ask(ctx, first.version(version), nil); why != nil {
			err = why
		}
	}
	return header, err
}

// remove deletes a version of the object at key, or on a bucket without versions
// the object.
func (s *Store) remove(ctx context.Context, key, version string) error {
	_, _, err := s.ask(ctx, call{method: http.MethodDelete, key: key, right: "oss:DeleteObject"}.version(version), nil)
	return err
}
