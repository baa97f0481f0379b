package signertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// AWS is AWS KMS as far as signing needs it: TrentService.GetPublicKey and
// TrentService.Sign, in JSON 1.1 and signed with Signature Version 4.
type AWS struct{ Service }

// NewAWS makes the service of a region without keys.
func NewAWS(region string, c Credentials) *AWS { return &AWS{newService(region, c)} }

func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	answer, refusal := a.answer(r, body)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-RequestId", "11111111-2222-3333-4444-555555555555")
	if refusal != nil {
		w.WriteHeader(refusal.Status)
		answer = map[string]any{"__type": refusal.Code, "message": refusal.Message}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(code, message string) *Refusal { return &Refusal{http.StatusBadRequest, code, message} }

func (a *AWS) answer(r *http.Request, body []byte) (any, *Refusal) {
	if refusal := a.authenticate(r, body); refusal != nil {
		return nil, refusal
	}
	action, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !ok || r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		return nil, refuse("UnknownOperationException", "")
	}
	var input struct {
		KeyId            string
		Message          []byte
		MessageType      string
		SigningAlgorithm string
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&input); err != nil {
		return nil, refuse("SerializationException", err.Error())
	}
	key, refusal := a.admit(action, input.KeyId)
	switch {
	case refusal != nil:
		return nil, refusal
	case key == nil:
		return nil, refuse("NotFoundException", "Key '"+input.KeyId+"' does not exist")
	}
	arn := "arn:aws:kms:" + a.Region + ":111122223333:key/" + hashed([]byte(input.KeyId))[:32]
	spec := "ECC_NIST_" + strings.ReplaceAll(key.Params().Name, "-", "")
	switch action {
	case "GetPublicKey":
		return map[string]any{
			"KeyId": arn, "PublicKey": spki(key), "KeySpec": spec, "CustomerMasterKeySpec": spec, "KeyUsage": "SIGN_VERIFY",
			"SigningAlgorithms": []string{"ECDSA_SHA_256"},
		}, nil
	case "Sign":
		digest, refusal := awsDigest(key, input.Message, input.MessageType, input.SigningAlgorithm)
		if refusal != nil {
			return nil, refusal
		}
		return map[string]any{"KeyId": arn, "Signature": signDigest(key, digest), "SigningAlgorithm": input.SigningAlgorithm}, nil
	}
	return nil, refuse("UnknownOperationException", "")
}

func awsDigest(key *ecdsa.PrivateKey, message []byte, kind, algorithm string) ([]byte, *Refusal) {
	switch {
	case algorithm != "ECDSA_SHA_256" || key.Params().BitSize != 256:
		return nil, refuse("InvalidKeyUsageException", "Algorithm "+algorithm+" is incompatible with the key.")
	case len(message) < 1 || len(message) > 4096:
		return nil, refuse("ValidationException", "Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096")
	case kind == "DIGEST" && len(message) != sha256.Size:
		return nil, refuse("ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256.")
	case kind == "DIGEST":
		return message, nil
	}
	digest := sha256.Sum256(message)
	return digest[:], nil
}

// authenticate checks Signature Version 4.
func (a *AWS) authenticate(r *http.Request, body []byte) *Refusal {
	scheme, fields := authorization(r.Header.Get("Authorization"))
	signed := strings.Split(fields["SignedHeaders"], ";")
	day := time.Now().UTC().Format("20060102")
	at := r.Header.Get("X-Amz-Date")
	if len(at) >= len(day) {
		day = at[:len(day)]
	}
	scope := day + "/" + a.Region + "/kms/aws4_request"
	moment, err := time.Parse("20060102T150405Z", at)
	required := []string{"host", "x-amz-date", "x-amz-target", "content-type"}
	if a.Credentials.Token != "" {
		required = append(required, "x-amz-security-token")
	}
	switch {
	case scheme != "AWS4-HMAC-SHA256" || !signs(signed, required...):
		return refuse("IncompleteSignatureException", "not signed, or not all of it")
	case !strings.HasPrefix(fields["Credential"], a.Credentials.ID+"/") || r.Header.Get("X-Amz-Security-Token") != a.Credentials.Token:
		return refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
	case fields["Credential"] != a.Credentials.ID+"/"+scope || !recent(moment, err, 5*time.Minute):
		return refuse("InvalidSignatureException", "Signature expired, or its scope is not "+scope)
	}
	key := []byte("AWS4" + a.Credentials.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	text := "AWS4-HMAC-SHA256\n" + at + "\n" + scope + "\n" + hashed([]byte(canonical(r, signed, hashed(body))))
	if !hmac.Equal([]byte(fields["Signature"]), []byte(hex.EncodeToString(mac(key, text)))) {
		return refuse("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return nil
}
