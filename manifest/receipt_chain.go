package manifest

import "fmt"

// ReceiptChain checks the receipts of an archive against each other, one after another
// in the order of their numbers, the first one first. Numbers may be left out: whoever
// may put objects can put junk under any. The newest receipts can be cut off without
// that being seen by who holds none of them.
type ReceiptChain struct {
	policy *Policy
	links  map[int64]receiptLink // signed by a key that was good once
	last   int64                 // number of the newest good receipt; 0: none yet
	seq    int64                 // the newest manifest that a good receipt names
}

// receiptLink is where a receipt stands in the chain.
type receiptLink struct {
	digest Hash // of its object
	before int64
	prev   Hash
}

// NewReceiptChain begins a check of the receipts of the archive p governs, the newest
// version of its policy.
func NewReceiptChain(p *Policy) *ReceiptChain {
	return &ReceiptChain{policy: p, links: map[int64]receiptLink{}}
}

// Add opens the next receipt, out of the object with that number in its name, and
// returns the names of the keys that signed it and count. Keys count for the newest
// manifest that it or a receipt before it names, so that nobody dates a receipt back
// to before their key was revoked.
//
// An error that is ErrRollback comes with a good receipt: one before it was removed or
// replaced, or left out. Any other says that the object is no receipt of the chain, and
// counts for nothing.
func (c *ReceiptChain) Add(number int64, sealed []byte) (*Receipt, []string, error) {
	r, names, err := c.read(number, sealed)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest: receipt: %w", err)
	}
	err = c.follow(r)
	c.last, c.seq = number, max(c.seq, r.Seq)
	if err != nil {
		return r, names, fmt.Errorf("manifest: receipt %d: %w", number, err)
	}
	return r, names, nil
}

func (c *ReceiptChain) read(number int64, sealed []byte) (*Receipt, []string, error) {
	r, o, err := c.policy.openLink(number, sealed)
	if err != nil {
		return nil, nil, err
	}
	c.links[number] = receiptLink{Sum(sealed), r.Before, r.Prev}
	names, err := c.policy.reporters(o, max(r.Seq, 1), c.seq)
	return r, names, err
}

// OpenLink returns the receipt with that number out of its object, if any key that a
// version of p names signed it: also one that counts for nothing, as of a key that was
// revoked later. Others in the chain of receipts may come after it.
func OpenLink(number int64, sealed []byte, p *Policy) (*Receipt, error) {
	r, _, err := p.openLink(number, sealed)
	if err != nil {
		return nil, fmt.Errorf("manifest: receipt: %w", err)
	}
	return r, nil
}

func (p *Policy) openLink(number int64, sealed []byte) (*Receipt, opened, error) {
	if _, err := p.opened(); err != nil {
		return nil, opened{}, err
	}
	o, err := receiptKind.open(sealed)
	if err != nil {
		return nil, opened{}, err
	}
	if _, err := p.endorsers(o, 0, anyRole); err != nil {
		return nil, opened{}, err // before anything in it is read
	}
	r := new(Receipt)
	if err := parseEndorsement(o.payload, r); err != nil {
		return nil, opened{}, err
	}
	if err := p.governs(r.Archive); err != nil {
		return nil, opened{}, err
	}
	if r.Number != number {
		return nil, opened{}, invalid("%s holds receipt %d", ReceiptName(number), r.Number)
	}
	return r, o, nil
}

// follow goes back from a good receipt to the good one before it. What lies between
// the two was good once, under a key that a later policy revoked from an earlier
// manifest on.
func (c *ReceiptChain) follow(r *Receipt) error {
	at := r.Number
	for {
		l := c.links[at]
		if l.before == c.last && c.last == 0 {
			return nil
		}
		before, ok := c.links[l.before]
		switch {
		case l.before < c.last:
			return rollback("it leaves out receipt %d: it comes after receipt %d", c.last, l.before)
		case !ok:
			return rollback("receipt %d, which it comes after, was removed or replaced", l.before)
		case before.digest != l.prev:
			return rollback("receipt %d, which it comes after, was replaced: it is %s, and was %s", l.before, before.digest, l.prev)
		case l.before == c.last:
			return nil
		}
		at = l.before
	}
}
