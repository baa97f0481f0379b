package oss

import (
	"context"
	"fmt"
)

// AccessKey is what a request to Alibaba Cloud is signed with.
type AccessKey struct{ ID, Secret, Token string }

// AccessKeys returns a function that fetches access keys of a kind (see
// [CredentialKinds]) for another service of Alibaba Cloud, the same that a store
// would use: from the source that first had some, refreshed by it. It may be used
// concurrently, and its errors hold no secrets.
func AccessKeys(kind string) (func(context.Context) (AccessKey, error), error) {
	if err := checkKind(kind); kind != "" && err != nil {
		return nil, fmt.Errorf("oss: %w", err)
	}
	c := newCredentials(kind)
	return func(ctx context.Context) (AccessKey, error) {
		if err := c.ready(ctx); err != nil {
			return AccessKey{}, err
		}
		k := c.GetCredentials()
		return AccessKey{k.GetAccessKeyID(), k.GetAccessKeySecret(), k.GetSecurityToken()}, nil
	}, nil
}
