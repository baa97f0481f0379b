package signer

import (
	"errors"
	"net"
	"net/url"

	"github.com/aws/smithy-go"
)

// bare is a failure to reach a service without what SDKs put around it.
func bare(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err // not its address, which may be long
	}
	var dial *net.OpError
	if errors.As(err, &dial) {
		return dial
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}
