package tablestore

import (
	"crypto/md5"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/common"
	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
)

const (
	headerDate      = "x-ots-date"
	headerVersion   = "x-ots-apiversion"
	headerKeyID     = "x-ots-accesskeyid"
	headerInstance  = "x-ots-instancename"
	headerMD5       = "x-ots-contentmd5"
	headerToken     = "x-ots-ststoken"
	headerRequestID = "x-ots-requestid"

	apiVersion = "2015-12-31"

	// The SDK formats the date with a layout whose fraction is "123", which Go
	// reads as month, day and hour. This is what the service documents.
	dateLayout = "2006-01-02T15:04:05.000Z"
)

// signer returns credentials for one request sent at the moment given. It is a
// function so that printing what holds it prints no secret.
type signer func(now time.Time) common.Credentials

func newSigner(c Config) signer {
	plain := common.DefaultCredentials{
		AccessKeyID:     c.AccessKeyID,
		AccessKeySecret: c.AccessKeySecret,
		SecurityToken:   c.SecurityToken,
	}
	if c.Region == "" {
		return func(time.Time) common.Credentials { return &plain }
	}
	return func(now time.Time) common.Credentials {
		date := now.UTC().Format("20060102")
		key := common.FinalSigningKeyString(plain.AccessKeySecret, date, c.Region, "ots", "HmacSHA256")
		return dayCredentials{plain: &plain, region: c.Region, date: date, key: key}
	}
}

// dayCredentials are V4 credentials for one UTC day. Unlike the SDK's own they
// never change, so the date a request carries and the key it is signed with
// are of the same day even at midnight.
type dayCredentials struct {
	plain             *common.DefaultCredentials
	region, date, key string
}

var _ common.CredentialsV4 = dayCredentials{}

func (c dayCredentials) GetAccessKeyID() string     { return c.plain.AccessKeyID }
func (c dayCredentials) GetAccessKeySecret() string { return c.key }
func (c dayCredentials) GetSecurityToken() string   { return c.plain.SecurityToken }
func (c dayCredentials) GetRegion() string          { return c.region }
func (c dayCredentials) GetSigningDate() string     { return c.date }

// setHeaders gives a request for an action the headers the service asks for,
// the signature over them included.
func (in *Instance) setHeaders(req *http.Request, action string, body []byte) error {
	now := time.Now().UTC()
	credentials := in.sign(now)
	req.Header.Set("User-Agent", "otsnap")
	req.Header.Set(headerDate, now.Format(dateLayout))
	req.Header.Set(headerVersion, apiVersion)
	req.Header.Set(headerKeyID, credentials.GetAccessKeyID())
	req.Header.Set(headerInstance, in.name)
	req.Header.Set(headerMD5, digest(body))
	if token := credentials.GetSecurityToken(); token != "" {
		req.Header.Set(headerToken, token)
	}
	ots.AddExtraHeader(req, credentials)
	signature, err := ots.GetSignature("/"+action, http.MethodPost, credentials, req.Header)
	if err != nil {
		return err
	}
	ots.AddSignatureHeader(req, credentials, signature)
	return nil
}

// digest is how a body is named in its own headers.
func digest(body []byte) string {
	sum := md5.Sum(body)
	return base64.StdEncoding.EncodeToString(sum[:])
}
