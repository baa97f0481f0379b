package manifest

import (
	"context"
	"encoding/json"
	"fmt"
)

// SealReceipt signs a receipt: a JSON document that says what a command did and
// saw, of at most [MaxReceipt] bytes.
func SealReceipt(ctx context.Context, receipt []byte, signers ...Signer) ([]byte, error) {
	if !json.Valid(receipt) {
		return nil, fmt.Errorf("manifest: receipt: %w", invalid("it is not JSON"))
	}
	sealed, err := receiptKind.seal(ctx, receipt, signers)
	if err != nil {
		return nil, fmt.Errorf("manifest: receipt: %w", err)
	}
	return sealed, nil
}

// OpenReceipt returns the receipt in sealed, which key must have signed.
func OpenReceipt(sealed []byte, key PublicKey) ([]byte, error) {
	o, err := receiptKind.open(sealed)
	if err == nil && !o.by(key) {
		err = untrusted("key sha256:%s has not signed it", key.ID())
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: receipt: %w", err)
	}
	return o.payload, nil
}
