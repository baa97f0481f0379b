package tablestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

const (
	// attemptTime bounds one request with its answer: the largest of either is
	// some 5 MB, which passes even a line of 0.5 Mbit/s in this time.
	attemptTime = 2 * time.Minute

	// maxAnswer bounds an answer. The service stops at 4 MB, but never within a
	// row, and the size of a row has no limit.
	maxAnswer = 64 << 20

	maxErrorAnswer = 64 << 10
)

// request is one question to the service.
type request struct {
	action string
	table  string // for errors; empty where the action has none
	body   []byte
	trial  *trial // it is part of; nil: waiting to be sent counts as trying
}

func (r request) String() string {
	if r.table == "" {
		return r.action
	}
	return r.action + ", table " + r.table
}

// lost wraps trouble on the way.
func (r request) lost(cause error) error {
	return &transportError{what: r.String(), cause: cause}
}

// unreadable says that the answer came as it was sent and makes no sense.
func (r request) unreadable(cause error) error {
	return r.lost(fmt.Errorf("%w: %w", errUnreadable, cause))
}

// post makes one attempt, once the pace lets it. The answer is appended to
// buf[:0], its digest checked. Errors are an *[Error] or a *transportError, or
// the cause why ctx ended.
func (in *Instance) post(ctx context.Context, r request, buf []byte) ([]byte, error) {
	turn, err := in.pacer.lane(r.action).begin(ctx, r)
	if err != nil {
		return nil, err
	}
	answer, err := in.attempt(ctx, r, buf)
	turn.end(answer, err)
	return answer, err
}

func (in *Instance) attempt(ctx context.Context, r request, buf []byte) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	answer, err := in.send(bounded, r, buf)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		// The caller's context has not ended, so no error may say that one has.
		return nil, r.lost(fmt.Errorf("no answer within %s", attemptTime))
	}
	return answer, err
}

func (in *Instance) send(ctx context.Context, r request, buf []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.endpoint+"/"+r.action, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if err := in.setHeaders(req, r.action, r.body); err != nil {
		return nil, fmt.Errorf("%s: signing: %w", r.action, err)
	}
	resp, err := in.http.Do(req)
	if err != nil {
		return nil, r.lost(err)
	}
	defer resp.Body.Close()
	in.reached.Store(true)
	if resp.StatusCode != http.StatusOK {
		return nil, r.refusal(resp, req.Header.Get(headerToken))
	}
	body, err := readBody(resp, buf)
	if err != nil {
		return nil, r.lost(err)
	}
	return body, nil
}

// readBody reads an answer and compares it with the digest the service sends
// with every one. An answer without a digest did not come from the service, or
// something on the way has changed it.
func readBody(resp *http.Response, buf []byte) ([]byte, error) {
	if resp.ContentLength > maxAnswer {
		return nil, fmt.Errorf("%w: it is %d bytes long, the limit is %d", errUnreadable, resp.ContentLength, maxAnswer)
	}
	into := bytes.NewBuffer(buf[:0])
	if resp.ContentLength > 0 {
		into.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := into.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1))
	switch want := resp.Header.Get(headerMD5); {
	case err != nil:
		return nil, fmt.Errorf("the answer stops after %d bytes: %w", n, err)
	case n > maxAnswer:
		return nil, fmt.Errorf("%w: it is longer than %d bytes", errUnreadable, maxAnswer)
	case want == "":
		return nil, errors.New("the answer has no digest; is there a proxy that removes headers?")
	case want != digest(into.Bytes()):
		return nil, fmt.Errorf("the answer of %d bytes does not match its digest", n)
	}
	return into.Bytes(), nil
}

// refusal reads an answer that says no. It masks the token of temporary credentials
// in it: there are proxies that tell a request back in their page of an error.
func (r request) refusal(resp *http.Response, token string) error {
	e := &Error{
		Action:    r.action,
		Table:     r.table,
		Status:    resp.StatusCode,
		RequestID: resp.Header.Get(headerRequestID),
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer))
	if err != nil {
		return r.lost(fmt.Errorf("HTTP %d: %w", resp.StatusCode, err))
	}
	if token != "" {
		body = bytes.ReplaceAll(body, []byte(token), bytes.Repeat([]byte("*"), len(token)))
	}
	said := new(otsprotocol.Error)
	if proto.Unmarshal(body, said) != nil || said.GetCode() == "" {
		e.Message = "the answer is not Tablestore's: " + string(body)
		return e
	}
	e.Code, e.Message = said.GetCode(), said.GetMessage()
	return e
}
