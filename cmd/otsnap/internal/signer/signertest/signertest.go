// Package signertest has key services for tests, which check requests as those of
// AWS and of Alibaba Cloud do: the signature over the whole request, its age, the
// protocol's names and types, and how long a digest is.
package signertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Credentials are those a service knows.
type Credentials struct{ ID, Secret, Token string }

// Service is what both services have. It may be used concurrently.
type Service struct {
	Credentials Credentials
	Region      string

	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	asked   map[string]int
	trouble func(action string) *Refusal
	nonces  map[string]bool
}

// Refusal is an answer other than what was asked for.
type Refusal struct {
	Status        int
	Code, Message string
}

func newService(region string, c Credentials) Service {
	return Service{Credentials: c, Region: region, keys: map[string]*ecdsa.PrivateKey{}, asked: map[string]int{}, nonces: map[string]bool{}}
}

// AddKey makes a key on P-256, or another curve, under an id.
func (s *Service) AddKey(id string, curve elliptic.Curve) error {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = key
	return nil
}

// Misbehave has requests answered with what f returns, unless that is nil.
func (s *Service) Misbehave(f func(action string) *Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = f
}

// Asked is how often an action was asked for by requests that were good.
func (s *Service) Asked(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[action]
}

// admit notes a good request, and returns the key it is about and what to refuse
// it with all the same.
func (s *Service) admit(action, id string) (*ecdsa.PrivateKey, *Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble != nil {
		if refusal := s.trouble(action); refusal != nil {
			return nil, refusal
		}
	}
	s.asked[action]++
	return s.keys[id], nil
}

// fresh reports whether a nonce was not seen before.
func (s *Service) fresh(nonce string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.nonces[nonce]
	s.nonces[nonce] = true
	return !seen
}

func spki(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err) // the key is one we made
	}
	return der
}

func signDigest(key *ecdsa.PrivateKey, digest []byte) []byte {
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
	if err != nil {
		panic(err)
	}
	return sig
}

// authorization takes the value of the header apart: "SCHEME Credential=…, …".
func authorization(header string) (scheme string, fields map[string]string) {
	scheme, rest, _ := strings.Cut(header, " ")
	fields = map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	return scheme, fields
}

// canonical is the request as both services have it signed.
func canonical(r *http.Request, signed []string, payloadHash string) string {
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	return strings.Join([]string{r.Method, r.URL.EscapedPath(), canonicalQuery(r.URL.Query()), headers.String(), strings.Join(signed, ";"), payloadHash}, "\n")
}

func canonicalQuery(query url.Values) string {
	var pairs []string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, escape(name)+"="+escape(value))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape is that of RFC 3986.
func escape(text string) string {
	return strings.NewReplacer("+", "%20", "%7E", "~").Replace(url.QueryEscape(text))
}

func hashed(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// signs reports whether all names are among those signed, which are in order.
func signs(signed []string, names ...string) bool {
	return slices.IsSorted(signed) && !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(signed, name) })
}

func recent(at time.Time, err error, skew time.Duration) bool {
	return err == nil && time.Since(at).Abs() <= skew
}
