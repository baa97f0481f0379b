package tablestore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

// control asks the service about tables through its SDK. The SDK writes the
// question and reads the answer; between the two the request is signed, sent
// and checked like any other here, with ctx, which the SDK has no notion of,
// and it is retried here, because the SDK gives up after five seconds.
func (in *Instance) control(ctx context.Context, action, table string, use func(*ots.TableStoreClient) error) error {
	r := request{action: action, table: table}
	return in.retry(ctx, action, table, func() error {
		var sent bool
		var sendErr error
		carry := func(req *http.Request) (*http.Response, error) {
			sent = true
			var resp *http.Response
			resp, sendErr = in.carry(ctx, table, req)
			return resp, sendErr
		}
		err := guard(func() error { return use(in.client(carry)) })
		switch {
		case sendErr != nil:
			return sendErr
		case err != nil && sent:
			return r.unreadable(err)
		case err != nil:
			return fmt.Errorf("%s: %w", r, err)
		}
		return nil
	})
}

// carrier is an [http.RoundTripper].
type carrier func(*http.Request) (*http.Response, error)

func (c carrier) RoundTrip(req *http.Request) (*http.Response, error) { return c(req) }

// client returns the SDK's client with everything it does beside writing and
// reading messages turned off. It is given no secret.
func (in *Instance) client(c carrier) *ots.TableStoreClient {
	config := ots.NewDefaultTableStoreConfig()
	config.RetryTimes = 0
	config.HTTPTimeout.RequestTimeout = 0
	config.Transport = c
	return ots.NewClientWithConfig(in.endpoint, in.name, "unused", "unused", "", config)
}

// carry sends what the SDK wrote and returns the answer for the SDK to read.
func (in *Instance) carry(ctx context.Context, table string, req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r := request{action: strings.TrimPrefix(req.URL.Path, "/"), table: table, body: body}
	answer, err := in.post(ctx, r, nil)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{},
		Body:       io.NopCloser(bytes.NewReader(answer)),
		Request:    req,
	}, nil
}

// guard turns a panic into an error. The SDK dereferences optional fields of
// answers without looking.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the SDK cannot read it: %v", p)
		}
	}()
	return do()
}
