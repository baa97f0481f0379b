package signertest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// Alibaba is Alibaba Cloud KMS as far as signing needs it: GetPublicKey and
// AsymmetricSign of version 2016-01-20, in RPC style and signed with
// ACS3-HMAC-SHA256. Its keys are called KEY/VERSION.
type Alibaba struct {
	Service
	Joined bool // signatures are two numbers of 32 bytes, not ASN.1
}

// NewAlibaba makes the service of a region without keys.
func NewAlibaba(region string, c Credentials) *Alibaba {
	return &Alibaba{Service: newService(region, c)}
}

func (a *Alibaba) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	answer, refusal := a.answer(r, body)
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	if refusal != nil {
		w.WriteHeader(refusal.Status)
		answer = map[string]string{"Code": refusal.Code, "Message": refusal.Message, "HostId": r.Host}
	}
	answer["RequestId"] = "4bd560a1-729e-45f1-a3d9-b2a33d61046b"
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *Alibaba) answer(r *http.Request, body []byte) (map[string]string, *Refusal) {
	if refusal := a.authenticate(r, body); refusal != nil {
		return nil, refusal
	}
	query, action := r.URL.Query(), r.Header.Get("X-Acs-Action")
	if r.Header.Get("X-Acs-Version") != "2016-01-20" || r.Method != http.MethodPost || r.URL.Path != "/" {
		return nil, &Refusal{http.StatusNotFound, "InvalidVersion", "Specified parameter Version is not valid."}
	}
	id, version := query.Get("KeyId"), query.Get("KeyVersionId")
	key, refusal := a.admit(action, id+"/"+version)
	switch {
	case refusal != nil:
		return nil, refusal
	case key == nil:
		return nil, &Refusal{http.StatusNotFound, "Forbidden.KeyNotFound", "The specified Key is not found."}
	}
	answer := map[string]string{"KeyId": id, "KeyVersionId": version}
	switch action {
	case "GetPublicKey":
		answer["PublicKey"] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(key)}))
		return answer, nil
	case "AsymmetricSign":
		digest, err := base64.StdEncoding.DecodeString(query.Get("Digest"))
		if err != nil || len(digest) != sha256.Size || query.Get("Algorithm") != "ECDSA_SHA_256" {
			return nil, refuse("InvalidParameter", "The specified parameter is not valid.")
		}
		sig := signDigest(key, digest)
		if a.Joined {
			sig = join(sig)
		}
		answer["Value"] = base64.StdEncoding.EncodeToString(sig)
		return answer, nil
	}
	return nil, &Refusal{http.StatusNotFound, "InvalidAction.NotFound", "Specified api is not found, please check your url and method."}
}

// join writes the numbers of an ECDSA signature one after the other.
func join(der []byte) []byte {
	var numbers struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &numbers); err != nil {
		panic(err) // the signature is one we made
	}
	sig := make([]byte, 64)
	numbers.R.FillBytes(sig[:32])
	numbers.S.FillBytes(sig[32:])
	return sig
}

// authenticate checks ACS3-HMAC-SHA256, for which all x-acs- headers are signed.
func (a *Alibaba) authenticate(r *http.Request, body []byte) *Refusal {
	scheme, fields := authorization(r.Header.Get("Authorization"))
	signed := strings.Split(fields["SignedHeaders"], ";")
	required := []string{"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-acs-") {
			required = append(required, name)
		}
	}
	at, err := time.Parse("2006-01-02T15:04:05Z", r.Header.Get("X-Acs-Date"))
	switch {
	case scheme != "ACS3-HMAC-SHA256" || !signs(signed, required...) || r.Header.Get("X-Acs-Content-Sha256") != hashed(body):
		return refuse("IncompleteSignature", "The request signature does not conform to Aliyun standards.")
	case fields["Credential"] != a.Credentials.ID:
		return &Refusal{http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found."}
	case r.Header.Get("X-Acs-Security-Token") != a.Credentials.Token:
		return refuse("InvalidSecurityToken.Malformed", "The specified parameter \"SecurityToken\" is not valid.")
	case !recent(at, err, 15*time.Minute):
		return refuse("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
	case !a.fresh(r.Header.Get("X-Acs-Signature-Nonce")):
		return refuse("SignatureNonceUsed", "Specified signature nonce was used already.")
	}
	text := "ACS3-HMAC-SHA256\n" + hashed([]byte(canonical(r, signed, hashed(body))))
	if !hmac.Equal([]byte(fields["Signature"]), []byte(hex.EncodeToString(mac([]byte(a.Credentials.Secret), text)))) {
		return refuse("SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")
	}
	return nil
}
